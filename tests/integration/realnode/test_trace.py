"""The process node writes of pods what a real kubelet does, in the same order: on one control plane, side by side."""

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.controlplane import POOL
from pipecat_local.processes import wait_until
from pipecat_local.realnode.cluster import RealNode
from support.operated import Child
from support.pods import IMAGE, Pods

Trace = list[dict[str, Any]]
REFUSALS = {"SysctlForbidden": "refused", "NotSupported": "refused"}
"""Of a kubelet, and of a process node: each has its own."""


@pytest.fixture(scope="module")
def pool(node: RealNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process node on the real node's control plane, in a pool of its name."""
    name, folder = "pretended", tmp_path_factory.mktemp("process-node")
    taint = {"key": POOL, "value": name, "effect": "NoSchedule"}
    made = {"metadata": {"name": name, "labels": {POOL: name}}, "spec": {"taints": [taint]}}
    node.kubectl("create", "--filename", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Node", **made}))
    images = folder / "images.json"
    images.write_text(json.dumps({"images": {IMAGE: {"command": ["sh"]}}}))
    command: list[str | Path] = [sys.executable, "-m", "pipecat_local.node", "--kubeconfig", node.kubeconfig]
    command += ["--name", name, "--images", images, "--directory", folder]
    child = Child(command, {}, folder / "node.log")
    yield name
    child.stop()
    node.kubectl("delete", "node", name)


@pytest.fixture
def both(node: RealNode, pool: str) -> Iterator[tuple[Pods, Pods]]:
    """A namespace whose pods the real node runs, and one of the process node's."""
    made = []
    for of in (None, pool):
        name = f"test-{uuid.uuid4().hex[:10]}"
        node.create_namespace(name, of)
        made.append(Pods(node, name))
    yield made[0], made[1]
    for pods in made:
        node.kubectl("delete", "namespace", pods.namespace, "--wait=false")


def traced(pods: Pods, act: Callable[[Pods], None]) -> Trace:
    """What was written of its pod from then on, by whomever, each different from the one before."""
    path = f"/api/v1/namespaces/{pods.namespace}/pods"
    version = json.loads(pods.kubectl("get", "--raw", path))["metadata"]["resourceVersion"]
    act(pods)
    told = pods.kubectl("get", "--raw", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds=1")
    trace: Trace = []
    for line in told.splitlines():
        event = json.loads(line)
        entry = seen(event["type"], event["object"])
        if not passing(entry) and (not trace or trace[-1] != entry):
            trace.append(entry)
    return trace


def passing(entry: dict[str, Any]) -> bool:
    """A step on the way to its end that only a kubelet has: a process node ends a pod at one blow.

    The container has ended and its sandbox has not; the pod has failed and its container is asked to end; the pod is
    deleted and its container was never made.
    """
    if entry["phase"] == "Running":
        return entry["conditions"]["Ready"][1] in ("PodFailed", "PodCompleted")
    reasons = [container["reason"] for container in entry["containers"]]
    return bool(entry["deleting"]) and entry["phase"] == "Pending" and "ContainerCreating" in reasons


def seen(event: str, pod: dict[str, Any]) -> dict[str, Any]:
    """What is compared of it: all but times, addresses, ids, and texts."""
    status = pod["status"]
    containers = [container_seen(entry) for entry in status.get("containerStatuses") or []]
    conditions = {entry["type"]: (entry["status"], entry.get("reason")) for entry in status.get("conditions") or []}
    if status["phase"] == "Pending":
        # A process node has no sandbox that takes its time.
        conditions.pop("PodReadyToStartContainers", None)
    if any(container["reason"] == "ContainerStatusUnknown" for container in containers):
        # A container that never was: a kubelet makes its conditions before it gives it up.
        conditions |= {"Ready": ("False", None), "ContainersReady": ("False", None)}
    return {
        "event": event,
        "phase": status["phase"],
        "why": REFUSALS.get(status.get("reason"), status.get("reason")),
        "deleting": "deletionTimestamp" in pod["metadata"],
        "conditions": conditions,
        "containers": containers,
    }


def container_seen(entry: dict[str, Any]) -> dict[str, Any]:
    ((name, state),) = entry["state"].items()
    return {
        "state": name,
        "reason": state.get("reason"),
        "exitCode": state.get("exitCode"),
        "said": state.get("message") if name == "terminated" else None,
        "ready": entry["ready"],
        "started": entry.get("started"),
    }


def ends(pods: Pods) -> None:
    wait_until("its end", lambda: pods.get("pod")["status"]["phase"] in ("Succeeded", "Failed"), 60)


def is_ready(pods: Pods) -> None:
    pods.wait("pod", "condition=Ready")


def is_deleted(pods: Pods) -> None:
    is_ready(pods)
    pods.kubectl("delete", "pod", "pod")


def is_evicted(pods: Pods) -> None:
    is_ready(pods)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "pod"}}
    path = f"/api/v1/namespaces/{pods.namespace}/pods/pod/eviction"
    pods.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
    pods.kubectl("wait", "pod/pod", "--for=delete", "--timeout=55s")


def waits(pods: Pods) -> None:
    pods.wait("pod", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError")
    pods.kubectl("delete", "pod", "pod")


SHARED = {
    "env": [{"name": "DIR", "value": "/shared"}],
    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
}
WITH_SHARED = {"volumes": [{"name": "shared", "emptyDir": {}}]}
TRAPS = "trap 'exit 3' TERM; touch $DIR/trapping; while :; do sleep 0.1; done"
IGNORES = "trap '' TERM; touch $DIR/trapping; while :; do sleep 0.1; done"
UNTIL_PROBED = "until [ -e $DIR/probed ]; do sleep 0.1; done"


def probed(kind: str, script: str) -> dict[str, Any]:
    return SHARED | {
        f"{kind}Probe": {"exec": {"command": ["sh", "-c", script]}, "periodSeconds": 1, "failureThreshold": 1}
    }


# A kubelet probes what it has told to run: what ends earlier it may never tell of.
NEVER_READY = probed("readiness", "touch $DIR/probed; exit 1")
READY = probed("readiness", "ls $DIR/trapping")
NOT_LIVE = probed("liveness", "! ls $DIR/trapping")
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], Callable[[Pods], None]]] = {
    "exit 0": (f"{UNTIL_PROBED}; exit 0", NEVER_READY, WITH_SHARED, ends),
    "exit 1": (f"{UNTIL_PROBED}; exit 1", NEVER_READY, WITH_SHARED, ends),
    "last words": (
        f"{UNTIL_PROBED}; echo last words; exit 4",
        NEVER_READY | {"terminationMessagePolicy": "FallbackToLogsOnError"},
        WITH_SHARED,
        ends,
    ),
    "liveness fails": (TRAPS, NOT_LIVE, WITH_SHARED, ends),
    "inside its grace": (TRAPS, READY, WITH_SHARED, is_deleted),
    "past its grace": (IGNORES, READY, WITH_SHARED | {"terminationGracePeriodSeconds": 1}, is_deleted),
    "past its deadline": (TRAPS, SHARED, WITH_SHARED | {"activeDeadlineSeconds": 5}, ends),
    "evicted": (TRAPS, READY, WITH_SHARED, is_evicted),
    "refused": (
        "exit 0",
        {},
        {
            "initContainers": [{"name": "first", "image": IMAGE}],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]},
        },
        ends,
    ),
    "without its secret": ("exit 0", {"envFrom": [{"secretRef": {"name": "not-there"}}]}, {}, waits),
}


@pytest.mark.parametrize("case", CASES)
def test_it_writes_what_a_kubelet_writes(both: tuple[Pods, Pods], case: str) -> None:
    script, container, spec, act = CASES[case]

    def life(pods: Pods) -> None:
        pods.run("pod", script, container, **spec)
        act(pods)

    real, pretended = (traced(pods, life) for pods in both)
    assert pretended == real
