"""One operator on the shared control plane, watching one namespace."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipecat_local.controlplane import Cluster, free_ports
from pipecat_local.processes import tethered, wait_until
from support.keys import DAILY_KEY

WAIT_S = 40.0
SCRIPTED = "scripted:dev"


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


class Operated:
    """A namespace, and the operator that watches it."""

    def __init__(self, cluster: Cluster, namespace: str, daily: Child, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.daily = daily
        self.folder = folder
        self._operators: list[Child] = []
        self.metrics_url = ""

    def start(self, wait: bool = True, **settings: str) -> Child:
        """One more operator; ``wait`` until it leads and is ready."""
        (port,) = free_ports(1)
        self.metrics_url = f"http://127.0.0.1:{port}"
        env = {
            "KUBECONFIG": str(self.cluster.kubeconfig),
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

    def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """A Bot or BotSession."""
        manifest = {
            "apiVersion": "pipecat.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def bot(self, name: str = "bot", **spec: Any) -> None:
        """A Bot that runs the scripted image."""
        self.apply("Bot", name, {"image": SCRIPTED, "resources": {"requests": {"cpu": "1m"}}, **spec})

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
        _, text = get(f"{self.daily.ready['url']}/_standin/state")
        return [room["name"] for room in json.loads(text)["rooms"] if room["name"].startswith(self.namespace)]

    def events(self) -> list[tuple[str, str]]:
        """Reason and message of every event about a session."""
        return [
            (event["reason"], event["message"])
            for event in self.items("events")
            if event["involvedObject"]["kind"] == "BotSession"
        ]
