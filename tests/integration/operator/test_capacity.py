"""Bounds on live sessions are exact: whoever creates them, how many at once, and whatever becomes of the operator."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from pipecat_operator.kube import JOBS, SECRETS
from support.operated import BY_OPERATOR, Operated
from support.proxy import Call, Fault, Side
from support.world import Instance, World, kept_alive

WANTED, BOUND = 30, 5
QUOTA = {"group": "acme", "maxSessions": BOUND}
SAID = {
    "bot": "Bot 'bot' has all the sessions it may have, 5 (the Bot's spec.capacity.maxSessions).",
    "group": "Group 'acme' has all the sessions it may have, 5 (spec.quota.maxSessions;",
}


@pytest.mark.parametrize("of", ["bot", "group"])
def test_exactly_as_many_sessions_as_may_be(faulty: Operated, of: str):
    """By so many kubectls at once; then, as one of them ends, one more."""
    bots, spec = ["bot"], {}
    if of == "bot":
        faulty.bot(capacity={"maxSessions": BOUND})
    else:
        faulty.bot("other")
        bots, spec = ["bot", "other"], {"quota": QUOTA}
    with ThreadPoolExecutor(WANTED) as kubectls:
        for made in [
            kubectls.submit(faulty.session, f"s{number}", bots[number % len(bots)], **spec) for number in range(WANTED)
        ]:
            made.result()
    sessions = wait_until("every session to be decided", lambda: decided(faulty), 60)
    refused = {s["metadata"]["uid"]: s["status"] for s in sessions if s["status"]["phase"] == "Failed"}
    running = [s["metadata"]["name"] for s in sessions if s["status"]["phase"] == "Running"]
    assert (len(running), len(refused)) == (BOUND, WANTED - BOUND)
    assert {status["endReason"] for status in refused.values()} == {"CapacityReached"}
    assert all(status["message"].startswith(SAID[of]) for status in refused.values())
    assert dict(faulty.events())["CapacityReached"].startswith(SAID[of])
    assert writes(faulty, *refused) == {"patch botsessions": len(refused)}, "its end, and nothing else"
    state = faulty.daily_state()
    assert state["rooms_made"] == BOUND
    assert not [call for call in state["calls"] if call.startswith("DELETE")], "rooms that never were"

    faulty.kubectl("patch", "botsession", running[0], "--type=merge", "-p", '{"spec":{"stop":true}}')
    faulty.until_ended(running[0])
    faulty.session("next", **spec)
    faulty.until_phase("Running", name="next")
    faulty.session("past", **spec)
    assert faulty.until_ended("past")["endReason"] == "CapacityReached"


def test_lowering_the_bound_ends_nobody(operated: Operated):
    """Who lives counts, also by an operator that was not there when they started."""
    for name in ("a", "b"):
        operated.session(name)
        operated.until_phase("Running", name=name)
    operated.operator.stop()
    operated.bot(capacity={"maxSessions": 1})
    operated.start()
    operated.session("past")
    assert operated.until_ended("past")["endReason"] == "CapacityReached"
    operated.kubectl("delete", "botsession", "a")
    operated.session("past-still")
    assert operated.until_ended("past-still")["endReason"] == "CapacityReached"
    assert operated.until_phase("Running", name="b")
    operated.kubectl("delete", "botsession", "b")
    operated.session("next")
    operated.until_phase("Running", name="next")


def test_who_waits_for_its_bot_takes_nobodys_place(operated: Operated):
    quota = {"group": "acme", "maxSessions": 1}
    operated.session("waits", bot="late", quota=quota)
    operated.until(lambda status: "'late'" in status.get("message", ""), name="waits")
    operated.session("comes", quota=quota)
    operated.until_phase("Running", name="comes")
    operated.bot("late", capacity={"maxSessions": 0})
    assert operated.until_ended("waits")["endReason"] == "CapacityReached"


def decided(operated: Operated) -> list[dict]:
    """All sessions, once each of them runs or has ended."""
    sessions = operated.items("botsessions")
    phases = [(session.get("status") or {}).get("phase") for session in sessions]
    return sessions if all(phase in ("Running", "Succeeded", "Failed") for phase in phases) else []


def writes(operated: Operated, *uids: str) -> Counter:
    """What the operator wrote that has such a UID in its name, or is such a session's status."""
    names = {
        session["metadata"]["name"] for session in operated.items("botsessions") if session["metadata"]["uid"] in uids
    }
    names |= {f"bs-{uid}" for uid in uids}
    return Counter(
        f"{entry['verb']} {entry['objectRef']['resource']}"
        for entry in operated.cluster.audited(operated.namespace, BY_OPERATOR)
        if entry["objectRef"].get("name") in names and entry["responseStatus"]["code"] < 300
    )


async def create(world: World, names: list[str]) -> list[str]:
    """All at once; their UIDs."""
    return list(await asyncio.gather(*(world.session(name) for name in names)))


async def as_many_as_may_be(world: World, uids: list[str]) -> list[str]:
    """Waits until all is decided and checks it; answers those that were refused."""

    def refused() -> list[str]:
        return [uid for uid in uids if world.seen.status(uid).get("endReason") == "CapacityReached"]

    def live() -> list[str]:
        return [uid for uid in uids if world.seen.status(uid).get("phase") == "Running"]

    await world.seen.until("all to be decided", lambda: len(refused()) + len(live()) == len(uids))
    assert (len(live()), len(refused())) == (BOUND, len(uids) - BOUND)
    assert [world.seen.made(JOBS, uid) for uid in live()] == [1] * BOUND
    assert not [uid for uid in refused() if world.seen.made(JOBS, uid)], "a Job of one that was refused"
    await world.seen.until("their rooms only", lambda: len(world.rooms()) == BOUND)
    assert {room[-36:] for room in world.rooms()} == set(live())
    return refused()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
async def test_killed_again_and_again_while_thirty_want_to_start(worlds, cluster: Cluster, carried_out: bool):
    async with worlds() as world, Instance(world, cluster) as instance:
        kills, killed = ["rooms", "secrets", "jobs", "status"], set()
        seen: Counter[str] = Counter()

        def rule(call: Call) -> Fault | None:
            """Each process dies at the second call of its kind."""
            if not kills or not call.write or not call.path.endswith(f"/{kills[0]}") or instance.operator in killed:
                return None
            seen[kills[0]] += 1
            if seen[kills[0]] < 2:
                return None
            kills.pop(0)
            killed.add(instance.operator)
            return Fault(carried_out=carried_out, then=instance.operator.kill)

        await world.bot(capacity={"maxSessions": BOUND})
        instance.ledger.rule = rule
        try:
            async with kept_alive(instance):
                uids = await create(world, [f"s{number}" for number in range(WANTED)])
                await as_many_as_may_be(world, uids)
        except BaseException as error:
            error.add_note(instance.story())
            raise
        assert (kills, len(instance.operators)) == ([], 5)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_room_of_who_lost_its_place_by_a_crash_is_deleted(worlds, cluster: Cluster):
    """A slot without a Job dies with the operator: others may have it then, and what was made is undone."""
    async with worlds() as world, Instance(world, cluster) as instance:
        await world.bot(capacity={"maxSessions": BOUND})
        instance.ledger.rule = killing_at(instance, "/jobs")
        await instance.start()
        first = await create(world, [f"z{number}" for number in range(BOUND)])
        await instance.operator.until_ended()
        # The next leader lists, and decides, in the order of their names.
        others = await create(world, [f"a{number}" for number in range(BOUND)])
        instance.ledger.rule = no_sweep
        async with kept_alive(instance):
            refused = await as_many_as_may_be(world, first + others)
        undone = [uid for uid in refused if world.rooms_made(uid)]
        assert undone, "none that was refused had a room before"
        assert sum(world.seen.made(SECRETS, uid) for uid in refused) <= len(undone)


def killing_at(instance: Instance, path: str) -> Callable[[Call], Fault | None]:
    """The rule by which it dies before the first of such writes."""

    def rule(call: Call) -> Fault | None:
        return Fault(then=instance.operator.kill) if call.write and call.path.endswith(path) else None

    return rule


def no_sweep(call: Call) -> Fault | None:
    """The rule by which Daily does not tell what rooms there are: none is found by a sweep."""
    listing = call.side is Side.DAILY and call.method == "GET" and call.path.endswith("/rooms")
    return Fault(status=503) if listing else None
