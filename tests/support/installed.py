"""The chart, the stand-ins and the tests' Bots in a cluster of which nothing is known but a kubeconfig."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from pipecat_operator import names

MANIFESTS: Final = Path(__file__).parents[1] / "e2e" / "manifests"
CHART: Final = Path(__file__).parents[2] / "helm" / "pipecat-operator"
RELEASE: Final = "pipecat-e2e"
SYSTEM: Final = "pipecat-e2e-system"
STANDINS: Final = "pipecat-e2e-standins"
CALLS: Final = "pipecat-e2e-calls"
GATEWAY: Final = f"{RELEASE}-gateway"
CRDS: Final = ("bots.pipecat.dev", "botsessions.pipecat.dev")
BOT_IMAGE: Final = "pipecat-bot-standin:dev"
STANDINS_IMAGE: Final = "pipecat-standins:dev"
GOODBYE: Final = "Our time is up. Have a nice day."
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Every pod of ours must be one that the strictest standard allows."""
TIMEOUT: Final = "--timeout=50s"
"""Shorter than what kubectl is given itself, so that it can say what it waited for."""
START_S: Final = 120
GONE_S: Final = 60
CALL_S: Final = 240
HELM_S: Final = 240


class GivenCluster(Cluster):
    """Somebody else's cluster, by its kubeconfig."""

    def __init__(self, kubeconfig: Path, kubectl: Path, folder: Path) -> None:
        """``folder``: for what is written about it."""
        super().__init__(folder)
        self.kubeconfig = kubeconfig
        self.kubectl_binary = kubectl


class Installed:
    """What these tests talk to once it stands."""

    def __init__(self, cluster: Cluster, helm: Path) -> None:
        self.cluster = cluster
        self._helm = helm
        self._daily_key = secrets.token_hex(32)
        self._openai_key = f"sk-{secrets.token_hex(16)}"

    @property
    def secrets(self) -> list[str]:
        """What must be told nowhere."""
        return [self._daily_key, self._openai_key]

    def check(self) -> None:
        """That nothing of it is there: what somebody uses must not be taken over, and taken away afterwards.

        Raises:
            AssertionError: something is.
        """
        there = self.kubectl("get", "crd", *CRDS, "--ignore-not-found", "-o", "name", namespace="")
        there += self.kubectl("get", "ns", SYSTEM, STANDINS, CALLS, "--ignore-not-found", "-o", "name", namespace="")
        assert not there, f"these tests need a cluster without: {there}"

    def set_up(self) -> None:
        """Namespaces, stand-ins, the chart, the Bot ``assistant``."""
        for namespace in (SYSTEM, STANDINS, CALLS):
            metadata = {"name": namespace, "labels": RESTRICTED}
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, namespace="")
        self.secret(STANDINS, "keys", DAILY_API_KEY=self._daily_key, OPENAI_API_KEY=self._openai_key)
        self.secret(SYSTEM, "pipecat-daily", DAILY_API_KEY=self._daily_key)
        self.secret(
            CALLS, "bot-keys", OPENAI_API_KEY=self._openai_key, OPENAI_BASE_URL=f"http://openai.{STANDINS}.svc/v1"
        )
        self.kubectl("apply", "-f", MANIFESTS / "standins.yaml", namespace=STANDINS)
        self.kubectl("rollout", "status", "deployment/daily", "deployment/openai", TIMEOUT, namespace=STANDINS)
        self.install()
        self.bot("assistant")

    def install(self, *more: str) -> None:
        """The chart, or another revision of it; ``more`` arguments of Helm's."""
        values = ("--values", MANIFESTS / "values.yaml")
        self.helm("upgrade", "--install", RELEASE, CHART, *values, "--wait", "--timeout", "3m", *more)

    def tear_down(self) -> None:
        """Nothing of it stays: it may be somebody's cluster."""
        self.helm("uninstall", RELEASE, "--wait", "--ignore-not-found")
        self.kubectl("delete", "namespace", SYSTEM, STANDINS, CALLS, "--ignore-not-found", TIMEOUT, namespace="")
        self.kubectl("delete", "crd", *CRDS, "--ignore-not-found", namespace="")

    def logs(self) -> str:
        """What operator and gateway have said."""
        return self.kubectl(
            *("logs", "--selector", f"app.kubernetes.io/instance={RELEASE}", "--tail=-1", "--prefix"), namespace=SYSTEM
        )

    def helm(self, *arguments: str | Path) -> str:
        """What the real Helm said, in the release's namespace.

        Raises:
            subprocess.CalledProcessError: it failed; what it said is a note of the exception.
        """
        command = [self._helm, "--kubeconfig", self.cluster.kubeconfig, "--namespace", SYSTEM, *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=HELM_S, check=True).stdout
        except subprocess.CalledProcessError as error:
            error.add_note(f"{error.stdout}{error.stderr}")
            raise

    def kubectl(self, *arguments: str | Path, namespace: str = CALLS, stdin: str | None = None) -> str:
        """As an admin."""
        place = ("--namespace", namespace) if namespace else ()
        return self.cluster.kubectl(*place, *arguments, stdin=stdin)

    def apply(self, manifest: dict[str, Any], namespace: str = CALLS) -> None:
        """One object."""
        self.kubectl("apply", "-f", "-", namespace=namespace, stdin=json.dumps(manifest))

    def secret(self, namespace: str, name: str, **data: str) -> None:
        """A Secret."""
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        self.apply(body, namespace)

    def bot(self, name: str, **spec: Any) -> None:
        """A Bot; the stand-ins' keys are in its environment."""
        whole = {"image": BOT_IMAGE, "envFrom": [{"secretRef": {"name": "bot-keys"}}], **spec}
        self.apply({"apiVersion": names.API_VERSION, "kind": "Bot", "metadata": {"name": name}, "spec": whole})

    def session(self, name: str, bot: str = "assistant", **spec: Any) -> None:
        """A BotSession."""
        whole = {"botRef": {"name": bot}, **spec}
        self.apply({"apiVersion": names.API_VERSION, "kind": "BotSession", "metadata": {"name": name}, "spec": whole})

    def get(self, kind: str, name: str, namespace: str = CALLS) -> dict[str, Any]:
        """The object; empty when there is none."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found", namespace=namespace)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Of a session."""
        return self.get("botsession", name).get("status") or {}

    def until_phase(self, name: str, *phases: str, wait_s: float = START_S) -> dict[str, Any]:
        """The session's status, in that phase.

        Raises:
            TimeoutError: with where it stands instead.
        """

        def there() -> dict[str, Any]:
            status = self.status(name)
            return status if status.get("phase") in phases else {}

        try:
            return wait_until(f"session {name}", there, wait_s, 0.2)
        except TimeoutError as error:
            error.add_note(json.dumps(self.status(name), indent=1))
            error.add_note(self.kubectl("get", "pods,events", "-o", "wide"))
            raise

    def until_ended(self, name: str, wait_s: float = START_S) -> dict[str, Any]:
        """The session's final status."""
        return self.until_phase(name, "Succeeded", "Failed", wait_s=wait_s)

    def pod(self, name: str) -> str:
        """Of a session."""
        uid = self.get("botsession", name)["metadata"]["uid"]
        return self.kubectl("get", "pods", "-l", f"{names.LABEL_SESSION}={uid}", "-o", "name").strip()

    def in_bot(self, name: str, *command: str) -> str:
        """What a command in the session's container printed."""
        return self.kubectl("exec", self.pod(name), "--container", names.CONTAINER, "--", *command)

    def leader(self) -> str:
        """The operator's pod that leads."""
        holder: str = self.get("lease", "pipecat-operator", SYSTEM)["spec"]["holderIdentity"]
        return holder.rpartition("_")[0]

    def name_of(self, uid: str) -> str:
        """Of the session of that UID."""
        sessions = json.loads(self.kubectl("get", "botsessions", "-o", "json"))["items"]
        return next(s["metadata"]["name"] for s in sessions if s["metadata"]["uid"] == uid)

    def stop(self, name: str) -> None:
        """End a session as its user does."""
        self.kubectl("patch", "botsession", name, "--type=merge", "-p", '{"spec":{"stop":true}}')

    def delete(self, name: str) -> None:
        """The session; nothing of it may be left.

        Raises:
            TimeoutError: naming what is.
        """
        uid = self.get("botsession", name)["metadata"]["uid"]
        self.kubectl("delete", "botsession", name)
        left: list[str] = []

        def gone() -> bool:
            found = self.kubectl("get", "jobs,pods,secrets", "-l", f"{names.LABEL_SESSION}={uid}", "-o", "name")
            left[:] = [*found.split(), *(room for room in self.rooms() if uid in room)]
            return not left

        try:
            wait_until("nothing to be left", gone, GONE_S, 0.5)
        except TimeoutError as error:
            error.add_note(" ".join(left))
            raise

    def daily_state(self) -> dict[str, Any]:
        """What the Daily stand-in knows, through the API server: no address of the cluster need be in reach."""
        path = f"/api/v1/namespaces/{STANDINS}/services/daily:80/proxy/_standin/state"
        state: dict[str, Any] = json.loads(self.kubectl("get", "--raw", path, namespace=""))
        return state

    def rooms(self) -> list[str]:
        """All there are."""
        return [room["name"] for room in self.daily_state()["rooms"]]

    async def call(self, name: str, *options: str) -> AsyncIterator[dict[str, Any]]:
        """Call the session, from a pod: what happens, event by event; the last one is the result."""
        status = await asyncio.to_thread(self.status, name)
        caller = f"caller-{secrets.token_hex(4)}"
        await asyncio.to_thread(self.apply, _caller(caller, status, options))
        seen, last = 0, {}
        try:
            async with asyncio.timeout(CALL_S):
                # A log ends with its caller, and with the kubelet that serves it.
                while last.get("event") != "result":
                    await asyncio.to_thread(wait_until, "the caller", lambda: self._has_begun(caller), START_S, 0.2)
                    async for line in self._log(caller, seen):
                        seen += 1
                        last = json.loads(line)
                        yield last
        finally:
            await asyncio.to_thread(self.kubectl, "delete", "pod", caller, "--wait=false", "--grace-period=1")

    async def _log(self, pod: str, skipped: int) -> AsyncIterator[bytes]:
        """Lines, as they come, but for the first ones."""
        logs = await asyncio.create_subprocess_exec(
            *(self.cluster.kubectl_binary, "--kubeconfig", self.cluster.kubeconfig, "--namespace", CALLS),
            *("logs", "--follow", pod),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert logs.stdout
        try:
            async for line in logs.stdout:
                if skipped:
                    skipped -= 1
                else:
                    yield line
        finally:
            if logs.returncode is None:
                logs.kill()
            await logs.wait()

    async def in_a_call(self, name: str) -> "asyncio.Task[list[dict[str, Any]]]":
        """A new session, and somebody who has got an answer and stays; answers what they were told, once it ends."""
        self.session(name)
        await asyncio.to_thread(self.until_phase, name, "Running")
        talking = asyncio.Event()

        async def call() -> list[dict[str, Any]]:
            events = []
            try:
                async for event in self.call(name, "--questions", "1", "--stay", "200"):
                    events.append(event)
                    if event["event"] == "turn":
                        talking.set()
            finally:
                talking.set()
            return events

        calling = asyncio.create_task(call())
        await talking.wait()
        assert not calling.done(), calling.result()
        return calling

    def _has_begun(self, pod: str) -> bool:
        """Only then it has a log."""
        containers = self.get("pod", pod)["status"].get("containerStatuses", ())
        return any("waiting" not in container["state"] for container in containers)

    async def result_of(self, name: str, *options: str) -> dict[str, Any]:
        """Only the call's result."""
        last: dict[str, Any] = {}
        async for event in self.call(name, *options):
            last = event
        return last


def heard_last(events: list[dict[str, Any]]) -> str | None:
    """The bot's last words to somebody who stayed until it ended."""
    ended = [event["heard"] for event in events if event["event"] == "ended"]
    assert ended, events
    return ended[0]


def _caller(name: str, status: dict[str, Any], options: tuple[str, ...]) -> dict[str, Any]:
    token = {"name": status["credentialsSecretName"], "key": names.SECRET_USER_TOKEN}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "caller"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "caller",
                    "image": STANDINS_IMAGE,
                    "args": ["python", "-m", "pipecat_local.caller", "--room-url", status["room"]["url"], *options],
                    "env": [{"name": "CALLER_TOKEN", "valueFrom": {"secretKeyRef": token}}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
