"""The chart is upgraded, rolled back, taken away; operator, gateway and kubelet go and come: calls go on."""

import asyncio
import json

import pytest

from e2e.client import PRIVATE, Client
from pipecat_local.processes import wait_until
from pipecat_local.realnode.cluster import RealNode
from support.installed import GATEWAY, GOODBYE, RELEASE, START_S, SYSTEM, TIMEOUT, Installed, heard_last

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENTS = 3
MOST_REPLICAS = 3
SCALE_S = 60


async def hung_up_politely(installed: Installed, name: str, calling: asyncio.Task) -> None:
    """The call went on until now: stopped, it is heard to end as calls do."""
    assert not calling.done()
    await asyncio.to_thread(installed.stop, name)
    assert heard_last(await calling) == GOODBYE
    assert (await asyncio.to_thread(installed.until_ended, name))["endReason"] == "Stopped"
    await asyncio.to_thread(installed.delete, name)


async def starts_and_stops(installed: Installed, name: str) -> None:
    """A session that is made now."""
    await asyncio.to_thread(installed.session, name)
    await asyncio.to_thread(installed.until_phase, name, "Running")
    await asyncio.to_thread(installed.stop, name)
    assert (await asyncio.to_thread(installed.until_ended, name))["endReason"] == "Stopped"
    await asyncio.to_thread(installed.delete, name)


async def starts_and_stops_by_the_gateway(installed: Installed, client: Client) -> None:
    """Whichever of its pods there are now."""
    uid = await asyncio.to_thread(client.start, "assistant")
    name = await asyncio.to_thread(installed.name_of, uid)
    await asyncio.to_thread(installed.until_phase, name, "Running")
    stopped, answer = await asyncio.to_thread(client.call, PRIVATE, "DELETE", f"/sessions/{uid}")
    assert stopped == 200, answer
    assert (await asyncio.to_thread(installed.until_ended, name))["endReason"] == "Stopped"
    await asyncio.to_thread(installed.delete, name)


async def test_an_upgrade_and_a_rollback_interrupt_nobody(installed: Installed, client: Client):
    calling = await installed.in_a_call("upgraded")
    before = installed.get("botsession", "upgraded")["status"]
    upgrade = asyncio.to_thread(installed.install, "--set", "operator.workers=500", "--set", "gateway.drainSeconds=15")
    await asyncio.gather(upgrade, starts_and_stops_by_the_gateway(installed, client))
    rollback = asyncio.to_thread(installed.helm, "rollback", RELEASE, "--wait", "--timeout", "3m")
    await asyncio.gather(rollback, starts_and_stops_by_the_gateway(installed, client))
    assert installed.get("botsession", "upgraded")["status"] == before
    await hung_up_politely(installed, "upgraded", calling)


async def test_uninstalled_in_a_call_nothing_is_stuck(installed: Installed):
    """Nobody hangs up. What there is can be deleted, and is there for who installs it again."""
    calling = await installed.in_a_call("orphan")
    uid = installed.get("botsession", "orphan")["metadata"]["uid"]
    await asyncio.to_thread(installed.helm, "uninstall", RELEASE, "--wait")
    try:
        assert not calling.done()
        assert installed.status("orphan")["phase"] == "Running"
        await asyncio.to_thread(installed.kubectl, "delete", "botsession", "orphan")
        assert heard_last(await calling) == GOODBYE

        def gone() -> bool:
            return not installed.kubectl("get", "jobs,pods,secrets", "-l", f"pipecat.dev/session={uid}", "-o", "name")

        await asyncio.to_thread(wait_until, "nothing to be left", gone, START_S, 0.5)
    finally:
        await asyncio.to_thread(installed.install)
    await starts_and_stops(installed, "installed-again")


async def test_the_leader_is_killed_in_a_call(installed: Installed):
    calling = await installed.in_a_call("led")
    leader = installed.leader()
    # The process below the init, by its own user: as a crash, and no politeness.
    kill = "import os, signal; os.kill(int(open('/proc/1/task/1/children').read()), signal.SIGKILL)"
    await asyncio.to_thread(installed.kubectl, "exec", leader, "--", "python", "-c", kill, namespace=SYSTEM)
    await starts_and_stops(installed, "led-after-it")
    await hung_up_politely(installed, "led", calling)
    restarts = installed.get("pod", leader, SYSTEM)["status"]["containerStatuses"][0]["restartCount"]
    assert restarts > 0, "it was killed"


def gateway_pods(installed: Installed) -> list[str]:
    """Those that are about to go, too."""
    chosen = ("--selector", "app.kubernetes.io/component=gateway", "-o", "name")
    return [pod.removeprefix("pod/") for pod in installed.kubectl("get", "pods", *chosen, namespace=SYSTEM).split()]


def has_started(installed: Installed, pod: str, bot: str) -> bool:
    """Whether that pod of the gateway has answered with a session of that Bot."""
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:7860/proxy/metrics"
    lines = installed.kubectl("get", "--raw", path, namespace="").splitlines()
    of_starts = [line for line in lines if line.startswith("pipecat_gateway_starts_total{") and f'bot="{bot}"' in line]
    return any('outcome="ok"' in line for line in of_starts)


async def test_the_gateway_is_scaled_under_load(installed: Installed, client: Client):
    """Every start is answered, by a session of its own, and each replica answers some."""
    # Its pod never runs: what is loaded is the gateway, not the node.
    installed.bot("paper", image="pipecat-bot:nowhere", resources={"requests": {"cpu": "1m", "memory": "1Mi"}})
    scaled = asyncio.Event()

    async def starts() -> list[str]:
        """One after the other, until there is nothing more to disturb them."""
        started = []
        while not scaled.is_set():
            started.append(await asyncio.to_thread(client.start, "paper"))
        return started

    def all_have_started() -> bool:
        pods = gateway_pods(installed)
        return len(pods) == MOST_REPLICAS and all(has_started(installed, pod, "paper") for pod in pods)

    def only_one_is_left() -> bool:
        return len(gateway_pods(installed)) == 1

    async def scale_to(replicas: int) -> None:
        what = (f"deployment/{GATEWAY}", f"--replicas={replicas}")
        await asyncio.to_thread(installed.kubectl, "scale", *what, namespace=SYSTEM)
        status = ("rollout", "status", f"deployment/{GATEWAY}", TIMEOUT)
        await asyncio.to_thread(installed.kubectl, *status, namespace=SYSTEM)

    async def scale() -> None:
        try:
            await scale_to(MOST_REPLICAS)
            await asyncio.to_thread(wait_until, "a start by each replica", all_have_started, SCALE_S, 0.5)
            await scale_to(1)
            # Not before they are gone: until then one may still be asked.
            await asyncio.to_thread(wait_until, "a single replica", only_one_is_left, SCALE_S, 0.5)
        finally:
            scaled.set()

    *clients, _ = await asyncio.gather(*(starts() for _ in range(CLIENTS)), scale())
    started = [uid for one in clients for uid in one]
    assert started
    sessions = json.loads(installed.kubectl("get", "botsessions", "-o", "json"))["items"]
    papers = {s["metadata"]["uid"]: s["metadata"]["name"] for s in sessions if s["spec"]["botRef"]["name"] == "paper"}
    assert sorted(papers) == sorted(started)
    await asyncio.to_thread(installed.kubectl, "delete", "botsession", *papers.values(), TIMEOUT)


async def test_the_kubelet_is_restarted_in_a_call(installed: Installed):
    node = installed.cluster
    if not isinstance(node, RealNode):
        pytest.skip("only a node of these tests' own has a kubelet to restart")
    calling = await installed.in_a_call("kept")
    before = installed.get("botsession", "kept")["status"]
    await node.stop_kubelet()
    await node.start_kubelet()
    await starts_and_stops(installed, "after-it")
    assert installed.get("botsession", "kept")["status"] == before
    await hung_up_politely(installed, "kept", calling)
