"""One operator on the shared control plane, watching one namespace."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipecat_local.controlplane import Cluster, free_ports
from pipecat_local.processes import tethered, wait_until
from support.keys import DAILY_KEY
from support.rights import OPERATOR, Right, install

WAIT_S = 40.0
BY_OPERATOR = '"userAgent":"Python'
"""In the audit log's lines; kubectl and the control plane have names of their own."""
SCRIPTED = "scripted:dev"
REAL = "pipecat-bot:dev"
"""The bot's host, from this checkout."""
SCRIPTED_SPEC: dict[str, Any] = {"image": SCRIPTED, "resources": {"requests": {"cpu": "1m"}}}


class Child:
    """A process with a log, and a line of JSON when it is ready."""

    def __init__(self, command: list[str | Path], env: dict[str, str], log: Path, announces: bool = True) -> None:
        self.log_file = log
        self.ready: dict[str, Any] = {}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tethered(command),
                stdout=subprocess.PIPE if announces else subprocess.DEVNULL,
                stderr=output,
                env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **env},
            )
        if announces:
            assert self._process.stdout
            self.ready = json.loads(self._process.stdout.readline() or b"{}")
            assert self.ready.get("ready"), self.log()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text()

    def ended(self) -> int | None:
        """Its exit code, once it has ended."""
        return self._process.poll()

    def stop(self, kill: bool = False) -> int:
        """Its exit code."""
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        code = self._process.wait(WAIT_S)
        if self._process.stdout:
            self._process.stdout.close()
        return code


def get(url: str) -> tuple[int, str]:
    """Status (0: no answer) and text."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def post(url: str, value: Any) -> None:
    """JSON."""
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).close()


def start_daily(folder: Path) -> Child:
    """A Daily stand-in without rate limits."""
    command: list[str | Path] = [sys.executable, "-m", "pipecat_local.daily", "--no-limits"]
    return Child(command, {"DAILY_API_KEY": DAILY_KEY}, folder / "daily.log")


def set_faults(daily: Child, *faults: dict[str, Any]) -> None:
    """What the Daily stand-in answers next."""
    post(f"{daily.ready['url']}/_standin/faults", faults)


def set_domain(daily: Child, **changes: Any) -> None:
    """Change the stand-in's ``api_key``, or by how much its clock is ahead (``ahead_s``)."""
    post(f"{daily.ready['url']}/_standin/domain", changes)


def hang_up(uid: str) -> None:
    """Have the session's scripted bot end by itself: nobody deletes its pod."""
    wanted = f"PIPECAT_SESSION_ID={uid}".encode()
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGTERM)


def manifest(kind: str, name: str, spec: dict[str, Any], version: str = "pipecat.dev/v1alpha1") -> dict[str, Any]:
    """An object."""
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


class Operated:
    """A namespace, and the operator that watches it."""

    def __init__(self, cluster: Cluster, namespace: str, daily: Child, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.daily = daily
        self.folder = folder
        self._operators: list[Child] = []
        self._installed: dict[str, Path] = {}
        self.metrics_url = ""

    def install(self, watched: str | None = None, without: Right | None = None) -> Path:
        """The kubeconfig of the operator's service account, with its rights from now on.

        ``watched``: the namespaces, as in its settings; ``without``: save that right.
        """
        watched = self.namespace if watched is None else watched
        namespaces = [name for name in watched.split(",") if name]
        account = install(self.cluster, OPERATOR, self.namespace, namespaces, without=without)
        self._installed[watched] = account.kubeconfig()
        return self._installed[watched]

    def start(self, wait: bool = True, **settings: str) -> Child:
        """One more operator; ``wait`` until it leads and is ready."""
        (port,) = free_ports(1)
        self.metrics_url = f"http://127.0.0.1:{port}"
        watched = settings.get("PIPECAT_OPERATOR_WATCH_NAMESPACES", self.namespace)
        env = {
            "KUBECONFIG": str(self._installed.get(watched) or self.install(watched)),
            "DAILY_API_KEY": DAILY_KEY,
            "DAILY_API_URL": self.daily.ready["api_url"],
            "PIPECAT_OPERATOR_NAMESPACE": self.namespace,
            "PIPECAT_OPERATOR_WATCH_NAMESPACES": self.namespace,
            "PIPECAT_OPERATOR_INSTALLATION_ID": self.namespace,
            "PIPECAT_OPERATOR_HTTP_PORT": str(port),
            "PIPECAT_OPERATOR_LOG_LEVEL": "DEBUG",
            **settings,
        }
        log = self.folder / f"operator-{len(self._operators)}.log"
        child = Child([sys.executable, "-m", "pipecat_operator"], env, log, announces=False)
        self._operators.append(child)
        if wait:
            wait_until("the operator", lambda: "Ready:" in child.log() or child.ended() is not None, WAIT_S)
            assert child.ended() is None, child.log()
        return child

    @property
    def operator(self) -> Child:
        """The latest one."""
        return self._operators[-1]

    def close(self) -> None:
        """End every operator, and make sure that none told a secret."""
        for child in self._operators:
            if child.ended() is None:
                child.stop()
        for child in self._operators:
            assert DAILY_KEY not in child.log()
            assert "eyJ" not in child.log(), "a token was logged"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """In the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl said, also when it failed."""
        try:
            return self.kubectl(*arguments, stdin=stdin)
        except subprocess.CalledProcessError as error:
            return str(error.stderr)

    def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """A Bot or BotSession."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(kind, name, spec)))

    def bot(self, name: str = "bot", **spec: Any) -> None:
        """A Bot that runs the scripted image."""
        self.apply("Bot", name, SCRIPTED_SPEC | spec)

    def session(self, name: str = "s", bot: str = "bot", **spec: Any) -> str:
        """A BotSession; answers its UID."""
        self.apply("BotSession", name, {"botRef": {"name": bot}, **spec})
        uid: str = self.get("botsession", name)["metadata"]["uid"]
        return uid

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """The object; empty when there is none."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def items(self, kind: str) -> list[dict[str, Any]]:
        """All of a kind."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json"))["items"]
        return found

    def until(self, what: Callable[[dict[str, Any]], Any], name: str = "s", wait_s: float = WAIT_S) -> dict[str, Any]:
        """The session's status, once ``what`` holds of it."""

        def there() -> dict[str, Any]:
            status = self.get("botsession", name).get("status") or {}
            return status if what(status) else {}

        try:
            return wait_until(f"session {name}", there, wait_s, 0.1)
        except TimeoutError as error:
            error.add_note(json.dumps(self.get("botsession", name).get("status"), indent=1))
            error.add_note(self._operators[-1].log() if self._operators else "")
            raise

    def until_phase(self, *phases: str, name: str = "s", wait_s: float = WAIT_S) -> dict[str, Any]:
        """The session's status, in that phase."""
        return self.until(lambda status: status.get("phase") in phases, name, wait_s)

    def until_ended(self, name: str = "s", wait_s: float = WAIT_S) -> dict[str, Any]:
        """The session's final status."""
        return self.until_phase("Succeeded", "Failed", name=name, wait_s=wait_s)

    def rooms(self) -> list[str]:
        """The rooms of this installation that there are."""
        return [room["name"] for room in self.daily_state()["rooms"] if room["name"].startswith(self.namespace)]

    def daily_state(self) -> dict[str, Any]:
        """What the Daily stand-in knows."""
        state: dict[str, Any] = json.loads(get(f"{self.daily.ready['url']}/_standin/state")[1])
        return state

    def events(self, name: str | None = None) -> list[tuple[str, str]]:
        """Reason and message of every event about a session, or about that one."""
        return [
            (event["reason"], event["message"])
            for event in self.items("events")
            if (of := event["involvedObject"])["kind"] == "BotSession" and name in (None, of["name"])
        ]


@contextlib.contextmanager
def new_namespace(
    cluster: Cluster, pool: str, daily: Child, folder: Path, name: str | None = None
) -> Iterator[Operated]:
    """A namespace without an operator yet."""
    name = name or f"test-{uuid.uuid4().hex[:10]}"
    cluster.create_namespace(name, pool=pool)
    operated = Operated(cluster, name, daily, folder)
    try:
        yield operated
    finally:
        operated.close()
        cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")
