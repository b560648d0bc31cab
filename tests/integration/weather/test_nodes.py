"""What a node does to a session: memory, eviction, preemption, and nodes that are gone."""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from pipecat_local.processes import wait_until
from support.nodes import process_node
from support.operated import Child, Operated, new_namespace
from support.weather import TTL, told, unharmed

HELD = {"podTemplate": {"metadata": {"annotations": {"pipecat.dev/fake-hold": "true"}}}}
"""kwok keeps its hands off such a Bot's pods: the test writes their status as a kubelet does."""

GOES_S = 200.0
"""Until a node that is gone is given up."""


@pytest.fixture
def on_kwok(cluster: Cluster, kwok_namespace: str, daily: Child, tmp_path: Path) -> Iterator[Operated]:
    """A namespace whose pods kwok plays, with an operator and two Bots."""
    operated = Operated(cluster, kwok_namespace, daily, tmp_path)
    operated.bot()
    operated.bot("held", **HELD)
    operated.start()
    yield operated
    operated.close()


def running_by_hand(operated: Operated) -> str:
    """A session whose pod's status is written here; answers the pod's name once the bot is in the room."""
    operated.session(bot="held", session=TTL)
    pods = wait_until("its pod on a node", lambda: [p for p in operated.items("pods") if by_hand(p)], 20, 0.1)
    name: str = pods[0]["metadata"]["name"]
    write_status(operated, name, "Running", {"running": {"startedAt": now()}}, ready=True)
    operated.until_phase("Running")
    return name


def by_hand(pod: dict[str, Any]) -> bool:
    """Whether it is on a node, and its status the test's to write."""
    return "pipecat.dev/fake-hold" in pod["metadata"].get("annotations", {}) and "nodeName" in pod["spec"]


def now() -> str:
    """As Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_status(
    operated: Operated, pod: str, phase: str, state: dict[str, Any], ready: bool = False, **more: Any
) -> None:
    """As a kubelet does."""
    container = {"name": "bot", "image": "x", "imageID": "", "restartCount": 0, "ready": ready, "state": state}
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": now()}, *more.pop("conditions", ())]
    status = {"phase": phase, "containerStatuses": [container], "conditions": conditions, **more}
    patch = json.dumps({"status": status})
    operated.kubectl("patch", "pod", pod, "--subresource=status", "--type=merge", "--patch", patch)


def killed(reason: str) -> dict[str, Any]:
    """The state of a container that SIGKILL ended."""
    return {"terminated": {"exitCode": 137, "reason": reason, "startedAt": now(), "finishedAt": now()}}


def test_out_of_memory(on_kwok: Operated):
    """No kubelet here enforces memory: the pod's status is written as the kubelet writes it."""
    with unharmed(on_kwok):
        write_status(on_kwok, running_by_hand(on_kwok), "Failed", killed("OOMKilled"))
        told(on_kwok).check("OutOfMemory", "killed for its memory", "resources.limits.memory")


def test_evicted_by_a_kubelet_short_of_memory(on_kwok: Operated):
    """No kubelet here runs short: the pod's status is written as the kubelet writes it."""
    said = (
        "The node was low on resource: memory. Container bot was using 800Mi, request is 300Mi, has larger consumption."
    )
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": said}
    with unharmed(on_kwok):
        pod = running_by_hand(on_kwok)
        target["lastTransitionTime"] = now()
        write_status(on_kwok, pod, "Failed", killed("Error"), conditions=[target], reason="Evicted", message=said)
        words = (f"Node {on_kwok.namespace}-0", "was using 800Mi, request is 300Mi", "raise the Bot's requests")
        told(on_kwok).check("Evicted", *words)


async def test_a_node_is_drained(cluster: Cluster, daily: Child, tmp_path: Path):
    """By kubectl drain, which evicts through the API."""
    async with two_nodes(cluster, daily, tmp_path) as operated:
        with unharmed(operated, bot="on-0"):
            operated.session(bot="on-1", session=TTL)
            operated.until_phase("Running")
            node = f"{operated.namespace}-1"
            operated.kubectl("drain", node, "--delete-emptydir-data", "--force", "--timeout=30s")
            words = (f"Node {node}: Eviction API: evicting", "Drain nodes when no session runs there")
            told(operated).check("Evicted", *words)


async def test_preempted(cluster: Cluster, daily: Child, tmp_path: Path):
    """By the real scheduler, for a pod of a higher PriorityClass on a node that has room for one."""
    high = f"high-{uuid.uuid4().hex[:6]}"
    cluster.kubectl("create", "priorityclass", high, "--value=1000")
    async with two_nodes(cluster, daily, tmp_path) as operated:
        precious = {"spec": {"priorityClassName": high, "nodeSelector": hostname(operated, 0)}}
        operated.bot("precious", podTemplate=precious, resources=HALF)
        with unharmed(operated, bot="precious"):
            operated.session(bot="on-1", session=TTL)
            operated.until_phase("Running")
            overrides = {"spec": {"containers": [{"name": "p", "image": "x", "resources": HALF}]}}
            overrides["spec"] |= {"priorityClassName": high, "nodeSelector": hostname(operated, 1)}
            operated.kubectl("run", "preemptor", "--image=x", f"--overrides={json.dumps(overrides)}")
            told(operated).check("Preempted", "preempting to accommodate a higher priority pod", "priorityClassName")
            operated.kubectl("delete", "pod", "preemptor", "--wait=false")
    cluster.kubectl("delete", "priorityclass", high)


HALF = {"requests": {"cpu": "600m"}, "limits": {}}
"""More than half a node."""


def hostname(operated: Operated, number: int) -> dict[str, str]:
    """The selector of one of two nodes."""
    return {"kubernetes.io/hostname": f"{operated.namespace}-{number}"}


@contextlib.asynccontextmanager
async def two_nodes(cluster: Cluster, daily: Child, folder: Path) -> AsyncIterator[Operated]:
    """A namespace with two kwok nodes of 1 CPU, a Bot for each, and an operator."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    async with KwokNodes(cluster, folder, pool=name, count=2, capacity={"cpu": "1", "memory": "4Gi", "pods": "20"}):
        with new_namespace(cluster, name, daily, folder, name) as operated:
            for number in (0, 1):
                template = {"spec": {"nodeSelector": hostname(operated, number)}}
                operated.bot(f"on-{number}", podTemplate=template, resources=HALF)
            operated.start()
            yield operated


def test_nodes_that_go(cluster: Cluster, daily: Child, tmp_path: Path):
    """All at once, on real nodes, as it takes a minute and a half: one is shut down in order, one killed with its pods,
    one killed and deleted besides; and a session starts on one whose kubelet is gone."""
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    nodes = {what: f"{pool}-{what}" for what in ("safe", "dead", "deleted", "shut-down")}
    with contextlib.ExitStack() as stack:
        running = {}
        for what, node in nodes.items():
            (tmp_path / what).mkdir()
            running[what] = stack.enter_context(process_node(cluster, node, tmp_path / what, pool))
        operated = stack.enter_context(new_namespace(cluster, pool, daily, tmp_path))
        for what, node in nodes.items():
            operated.bot(what, podTemplate={"spec": {"nodeSelector": {"kubernetes.io/hostname": node}}})
        operated.start()
        with unharmed(operated, bot="safe"):
            for bot in ("dead", "deleted", "shut-down"):
                operated.session(bot, bot=bot, session={"terminationGracePeriodSeconds": 1})
                operated.until_phase("Running", name=bot)
            for what in ("dead", "deleted"):
                running[what].stop(kill=True)
            operated.kubectl("delete", "node", nodes["deleted"])
            running["shut-down"].stop()
            limits = {"startTimeoutSeconds": 4, "terminationGracePeriodSeconds": 1}
            operated.session("unstarted", bot="dead", session=limits)

            shut_down = ("-shut-down", "imminent node shutdown", "Drain nodes when no session runs there")
            told(operated, "shut-down").check("Evicted", *shut_down)
            gone = ("-dead has not started its pod", "its kubelet is gone")
            told(operated, "unstarted", GOES_S).check("StartTimeout", *gone)
            told(operated, "deleted", GOES_S).check("NodeLost", "-deleted", "PodGC: node no longer exists")
            # Its lease runs out, then its pod's toleration; nobody hears of the deletion.
            lost = ("-dead", "Its pod goes when the node comes back or is deleted")
            told(operated, "dead", GOES_S).check("NodeLost", *lost)

            operated.kubectl("delete", "botsessions", "dead", "deleted", "shut-down", "unstarted")
            # What an administrator does about the pods of a node that will not come back.
            operated.kubectl("taint", "node", nodes["dead"], "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute")
