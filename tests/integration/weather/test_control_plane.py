"""The control plane fails as a whole or in part: on one of this module's own, whose components can be stopped."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pipecat_local.controlplane import ControlPlane
from pipecat_local.processes import wait_until
from support.nodes import process_node
from support.operated import Child, Operated, get, hang_up, new_namespace
from support.weather import PATIENT, QUICK, TTL, stop, told, unharmed
from support.words import USER_LEFT

pytestmark = pytest.mark.asyncio(loop_scope="module")

CRDS = Path(__file__).parents[3] / "crds"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    """A control plane of this module's own."""
    plane = ControlPlane(tmp_path_factory.mktemp("plane"), [CRDS])
    await plane.start()
    with process_node(plane, "own", tmp_path_factory.mktemp("own")):
        yield plane
    await plane.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def operated(plane: ControlPlane, daily: Child, tmp_path: Path) -> AsyncIterator[Operated]:
    """A namespace with an operator and a Bot on it."""
    with new_namespace(plane, "own", daily, tmp_path) as operated:
        operated.bot()
        operated.start()
        yield operated


CONTROLLERS = ("kube-controller-manager", "kube-scheduler")


@contextlib.asynccontextmanager
async def without(plane: ControlPlane, *components: str) -> AsyncIterator[None]:
    """While these are down. Those that outlived an API server begin anew: else they back off for half a minute."""
    for name in components:
        await plane.take_down(name)
    try:
        yield
    finally:
        for name in components:
            await plane.bring_up(name)
        if "kube-apiserver" in components:
            for name in CONTROLLERS:
                await plane.take_down(name)
                await plane.bring_up(name)


async def test_the_api_server_is_restarted(plane: ControlPlane, operated: Operated):
    """While sessions start, run and end."""
    with unharmed(operated):
        running = operated.session("running", body={"end": USER_LEFT})
        operated.until_phase("Running", name="running")
        operated.session("ending")
        operated.until_phase("Running", name="ending")
        operated.session("starting", session=PATIENT)
        stop(operated, "ending")
        async with without(plane, "kube-apiserver"):
            hang_up(running)
        told(operated, "ending").check("Stopped")
        told(operated, "running").check("UserLeft")
        operated.until_phase("Running", name="starting")
        operated.session("new", body={"end": USER_LEFT, "now": True})
        told(operated, "new").check("UserLeft")
        operated.kubectl("delete", "botsessions", "starting", "running", "ending", "new")
    assert "Watch of jobs will begin again" in operated.operator.log()


async def test_the_api_server_is_away_for_longer_than_the_lease(plane: ControlPlane, operated: Operated):
    """The operator ends, as it may no longer lead; its Deployment starts it again."""
    operated.session()
    operated.until_phase("Running")
    async with without(plane, "kube-apiserver"):
        wait_until("the operator to end", lambda: operated.operator.ended() is not None, 30)
    assert operated.operator.ended() == 1
    assert "Leadership lost, ending at once: the Lease was not renewed within 10 s" in operated.operator.log()
    operated.start()
    with unharmed(operated):
        stop(operated, "s")
        told(operated).check("Stopped")
        operated.kubectl("delete", "botsession", "s")


async def test_what_vanished_with_etcds_history_is_noticed(plane: ControlPlane, operated: Operated):
    """A compacted etcd, and objects gone without an event, as after a restored backup."""
    with unharmed(operated):
        operated.session("vanished")
        operated.until_phase("Running", name="vanished")
        operated.session("waiting", bot="late")
        operated.until(lambda status: status.get("message"), name="waiting")
        operated.bot("old")
        async with without(plane, "kube-apiserver"):
            for path in ("botsessions/{}/vanished", "botsessions/{}/waiting", "bots/{}/old"):
                await plane.forget(f"pipecat.dev/{path.format(operated.namespace)}")
            await plane.compact()
        # The watches' resource versions are gone: every one of them begins with a list.
        metrics = f"{operated.metrics_url}/metrics"
        wait_until("the waiting one to be forgotten", lambda: 'phase="Pending"} 0.0' in get(metrics)[1], 30)
        wait_until("the room of the other to go", lambda: len(operated.rooms()) == 1, 30)
        operated.session("of-old", bot="old", session=QUICK)
        told(operated, "of-old").check("BotNotFound", "Bot 'old' is not in namespace")


async def test_the_controller_manager_is_down_for_a_while(plane: ControlPlane, operated: Operated):
    """Jobs get no pods, and what is deleted leaves its dependants; both are made good afterwards."""
    with unharmed(operated):
        uid = operated.session("running", body={"end": USER_LEFT})
        operated.until_phase("Running", name="running")
        async with without(plane, "kube-controller-manager"):
            operated.session("short", session={"startTimeoutSeconds": 4})
            operated.session("long", session=PATIENT)
            told(operated, "short").check("StartTimeout", "Its Job has no pod: is kube-controller-manager running?")
            hang_up(uid)
            told(operated, "running").check("UserLeft")
            operated.kubectl("delete", "botsession", "running", "short")
        operated.until_phase("Running", name="long")
        operated.kubectl("delete", "botsession", "long")


async def test_the_scheduler_is_down_for_a_while(plane: ControlPlane, operated: Operated):
    with unharmed(operated):
        async with without(plane, "kube-scheduler"):
            operated.session("short", session=QUICK)
            operated.session("long", session=PATIENT)
            told(operated, "short").check("StartTimeout", "has no node: is kube-scheduler running?")
        operated.until_phase("Running", name="long")
        operated.kubectl("delete", "botsession", "long")


async def test_one_of_all_namespaces_is_deleted(plane: ControlPlane, daily: Child, tmp_path: Path):
    """With the chart's ClusterRole the operator serves the others, and one made later."""
    with contextlib.ExitStack() as stack:
        first, doomed, later = (stack.enter_context(new_namespace(plane, "own", daily, tmp_path)) for _ in range(3))
        first.bot()
        doomed.bot()
        first.start(PIPECAT_OPERATOR_WATCH_NAMESPACES="")
        with unharmed(first):
            doomed.session()
            doomed.until_phase("Running")
            plane.kubectl("delete", "namespace", doomed.namespace, "--timeout=60s")
            wait_until("the room to go", lambda: len(first.rooms()) == 1, 30)
            later.bot()
            later.session(session=TTL, body={"end": USER_LEFT, "now": True})
            told(later).check("UserLeft")


async def test_the_crds_are_deleted_and_applied_again(plane: ControlPlane, operated: Operated):
    """Every session and Bot goes with them. The operator needs no restart by hand."""
    operated.session()
    operated.until_phase("Running")
    operated.kubectl("delete", "-f", str(CRDS), "--timeout=30s")
    wait_until("the room to go", lambda: not operated.rooms(), 30)
    wait_until("Job, pod and Secret to go", lambda: not operated.kubectl("get", "jobs,pods,secrets", "-o", "name"), 60)
    wait_until("kopf to notice", lambda: "are the CRDs installed" in operated.operator.log(), 60)
    plane.install(CRDS)
    operated.bot()
    with unharmed(operated):
        operated.session("new", session=TTL, body={"end": USER_LEFT, "now": True})
        told(operated, "new").check("UserLeft")
