"""A process node of the test's own, on the shared control plane."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.controlplane import POOL, Cluster
from pipecat_local.processes import tethered, wait_until

SHELL = "shell:dev"
PYTHON = "python:dev"
IMAGES = {SHELL: {"command": ["sh", "-c"]}, PYTHON: {"command": [sys.executable, "-c"]}}
SECRET_OF_THE_SHELL = "NOT_FOR_BOTS"
WAIT_S = 30.0


class ProcessNode:
    """One node, in a pool of its own name."""

    def __init__(self, cluster: Cluster, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.folder = folder
        self.name = name
        self.images = folder / "images.json"
        self._process: subprocess.Popen[bytes] | None = None

    def register(self) -> None:
        """The Node object as the pool needs it: the process finds it there."""
        metadata = {"name": self.name, "labels": {POOL: self.name}}
        taint = {"key": POOL, "value": self.name, "effect": "NoSchedule"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}}
        self.cluster.kubectl("create", "-f", "-", stdin=json.dumps(node))
        self.images.write_text(json.dumps({"images": IMAGES}))

    def start(self) -> None:
        """Until it says that it is ready."""
        with (self.folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self._command()),
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, SECRET_OF_THE_SHELL: "leaked"},
            )
        assert self._process.stdout
        assert json.loads(self._process.stdout.readline() or b"{}").get("ready"), self.log()

    def start_refused(self) -> str:
        """Start another; what it says when it refuses."""
        ran = subprocess.run(self._command(), capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert ran.returncode == 1
        return ran.stderr

    def _command(self) -> list[str | Path]:
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pipecat_local.node",
            "--kubeconfig",
            self.cluster.kubeconfig,
        ]
        return [*command, "--name", self.name, "--images", self.images, "--directory", self.folder]

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process
        self._process.terminate()
        return self._ended()

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process
        self._process.kill()
        self._ended()

    def _ended(self) -> int:
        assert self._process
        code = self._process.wait(timeout=WAIT_S)
        assert self._process.stdout
        self._process.stdout.close()
        self._process = None
        return code

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "node.log").read_text()

    def close(self) -> None:
        """Gone, its Node too."""
        if self._process:
            assert self.stop() == 0, self.log()
        self.cluster.kubectl("delete", "node", self.name, "--wait=false")

    def processes(self) -> list[str]:
        """The command lines of all processes of its pods."""
        marker = f"PIPECAT_LOCAL_CONTAINER={self.folder}/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and marker in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


class Pods:
    """The pods of one namespace that lies in a node's pool."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """In the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def create(self, manifest: dict[str, Any]) -> str:
        """Answers its name."""
        name: str = manifest["metadata"]["name"]
        self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))
        return name

    def run(self, *args: str, image: str = SHELL, spec: dict[str, Any] | None = None, **container: Any) -> str:
        """A pod of one container ``bot``; answers its name."""
        return self.create(pod(*args, image=image, spec=spec, **container))

    def run_job(self, *args: str, job: dict[str, Any] | None = None, **container: Any) -> tuple[str, str]:
        """A Job as the operator makes them; answers its name and its pod's."""
        rules = [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "bot", "operator": "NotIn", "values": [0]}},
        ]
        made = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"job-{uuid.uuid4().hex[:8]}"},
            "spec": {
                "backoffLimit": 0,
                "podReplacementPolicy": "Failed",
                "podFailurePolicy": {"rules": rules},
                "template": {"spec": pod(*args, **container)["spec"]},
                **(job or {}),
            },
        }
        name = self.create(made)
        query = ("get", "pods", "--selector", f"job-name={name}", "-o", "jsonpath={.items[*].metadata.name}")
        return name, wait_until(f"the pod of {name}", lambda: self.kubectl(*query), WAIT_S, 0.1)

    def until_job_failed(self, name: str) -> dict[str, Any]:
        """Its condition Failed."""

        def failed(job: dict[str, Any]) -> dict[str, Any]:
            conditions = job["status"].get("conditions") or []
            return next((c for c in conditions if c["type"] == "Failed"), {})

        return failed(self.until(name, failed, "job"))

    def get(self, name: str, kind: str = "pod") -> dict[str, Any]:
        """The object; empty when there is none."""
        text = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def until(self, name: str, what: Callable[[dict[str, Any]], Any], kind: str = "pod") -> dict[str, Any]:
        """The object, once ``what`` holds of it."""

        def there() -> dict[str, Any]:
            found = self.get(name, kind)
            return found if what(found) else {}

        try:
            return wait_until(f"{kind} {name}", there, WAIT_S, 0.1)
        except TimeoutError as error:
            error.add_note(json.dumps(self.get(name, kind).get("status"), indent=1))
            raise

    def until_gone(self, name: str) -> None:
        """There is no such pod any more."""
        wait_until(f"the end of pod {name}", lambda: not self.get(name), WAIT_S, 0.1)

    def until_phase(self, name: str, *phases: str) -> dict[str, Any]:
        """The pod, in that phase."""
        return self.until(name, lambda pod: pod["status"].get("phase") in phases)

    def until_ended(self, name: str) -> dict[str, Any]:
        """How container ``bot`` ended."""
        pod = self.until_phase(name, "Succeeded", "Failed")
        ended: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
        return ended

    def until_logged(self, name: str, text: str) -> None:
        """The pod's output has that text."""
        wait_until(f"{text!r} in the output of {name}", lambda: text in self.kubectl("logs", name), WAIT_S, 0.1)

    def until_event(self, name: str, reason: str, text: str = "") -> dict[str, Any]:
        """An event about the pod."""

        def there() -> dict[str, Any]:
            return next((e for e in self.events(name) if e["reason"] == reason and text in e["message"]), {})

        return wait_until(f"an event {reason} about {name}", there, WAIT_S, 0.1)

    def evict(self, name: str) -> None:
        """By the subresource, as a drain does."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    def wait_until(self, what: str, condition: Callable[[], Any]) -> Any:
        """With the usual patience."""
        return wait_until(what, condition, WAIT_S, 0.1)

    def events(self, name: str) -> list[dict[str, Any]]:
        """All events about the pod, in the order they were written."""
        text = self.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "json")
        items: list[dict[str, Any]] = json.loads(text)["items"]
        return sorted(items, key=lambda event: int(event["metadata"]["resourceVersion"]))


def pod(*args: str, image: str = SHELL, spec: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    """A manifest."""
    made = {"name": "bot", "image": image, "args": list(args), **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{uuid.uuid4().hex[:8]}"},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "containers": [made],
            **(spec or {}),
        },
    }


@pytest.fixture(scope="module")
def shared_node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNode]:
    """One for the tests of a module (in each test worker)."""
    node = ProcessNode(cluster, tmp_path_factory.mktemp("node"), f"node-{uuid.uuid4().hex[:8]}")
    node.register()
    node.start()
    yield node
    node.close()


@pytest.fixture
def own_node(cluster: Cluster, tmp_path: Path) -> Iterator[ProcessNode]:
    """One that the test may stop, kill and start."""
    node = ProcessNode(cluster, tmp_path, f"node-{uuid.uuid4().hex[:8]}")
    node.register()
    node.start()
    yield node
    node.close()


def _pods(node: ProcessNode) -> Iterator[Pods]:
    name = f"test-{uuid.uuid4().hex[:10]}"
    node.cluster.create_namespace(name, pool=node.name)
    yield Pods(node.cluster, name)
    node.cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def pods(shared_node: ProcessNode) -> Iterator[Pods]:
    """A fresh namespace on the shared node."""
    yield from _pods(shared_node)


@pytest.fixture
def own_pods(own_node: ProcessNode) -> Iterator[Pods]:
    """A fresh namespace on the test's own node."""
    yield from _pods(own_node)
