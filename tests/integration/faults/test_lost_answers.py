"""The API server and Daily fail in every way they have; then they don't, and everything is as it should be."""

import asyncio
from typing import Final

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_operator.kube import JOBS, PODS, SECRETS
from support.faults import Kind, down, first_tries
from support.proxy import Call, Fault, passing
from support.words import USER_LEFT
from support.world import QUICK, Instance, World, kept_alive

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINGERING: Final = {"terminationGracePeriodSeconds": 1}
TRIES: Final = 2
DOWN_S: Final = 60
SILENCE_ENDS_S: Final = 120
"""The operator takes a watch for dead after 90 s of silence."""


async def ended_well(world: World, uid: str, wait_s: float = 60) -> None:
    """The session's whole end; nothing is left, and nothing was made twice."""
    await world.seen.until("the end", lambda: world.seen.status(uid).get("endReason") == "UserLeft", wait_s)
    await world.seen.until("nothing to be left", lambda: not world.seen.left() and not world.rooms(), wait_s)
    assert (world.seen.made(JOBS, uid), world.seen.made(SECRETS, uid), world.rooms_made(uid)) == (1, 1, 1)


@pytest.mark.parametrize("kind", Kind)
async def test_every_call_fails_at_first(a_world: World, cluster: Cluster, kind: Kind):
    await a_world.bot()
    uid = await a_world.session(session=QUICK)
    async with Instance(a_world, cluster) as instance:
        instance.ledger.rule = first_tries(kind, TRIES, a_world.namespace)
        try:
            async with kept_alive(instance):
                await a_world.seen.until("Running", lambda: a_world.seen.status(uid).get("phase") == "Running")
                await a_world.hang_up(uid, said=USER_LEFT)
                await ended_well(a_world, uid)
                told = await instance.scrape()
            assert len(instance.operators) == 1, "it had to be started again"
            assert 'pipecat_sessions_ended_total{phase="Succeeded",reason="UserLeft"} 1.0' in told
        except BaseException as error:
            error.add_note(instance.story())
            raise


async def test_a_key_is_revoked_while_a_bot_was_started(a_world: World, cluster: Cluster):
    """The operator dies between the Job and the status; the next one may not ask Daily for anything."""
    await a_world.bot()
    async with Instance(a_world, cluster) as instance:
        uid = await a_world.session(session=LINGERING)

        def rule(call: Call) -> Fault | None:
            told = call.method == "PATCH" and call.path.endswith("/botsessions/s/status")
            return Fault(then=instance.operator.kill) if told else None

        instance.ledger.rule = rule
        await instance.start()
        await instance.operator.until_ended()
        await a_world.free_lease()
        instance.ledger.rule = passing
        instance.settings["DAILY_API_KEY"] = "revoked"
        await instance.start()
        await a_world.seen.until("the end", lambda: a_world.seen.status(uid).get("phase") == "Failed")
        assert a_world.seen.status(uid)["endReason"] == "RoomFailed"
        talking = [pod for pod in a_world.seen.of(PODS, uid) if pod["status"]["phase"] == "Running"]
        assert not talking, "no bot talks on in a session that has failed"


async def test_a_room_is_made_after_its_session_was_deleted(a_world: World, cluster: Cluster):
    """Daily takes its time to make it, and the answer is lost: its deletion came too early."""
    await a_world.bot()
    async with Instance(a_world, cluster) as instance, kept_alive(instance):
        deleted = asyncio.Event()
        slow = Fault(carried_out=True, held=deleted)
        instance.ledger.rule = lambda call: slow if (call.method, call.path) == ("POST", "/v1/rooms") else None
        asked = instance.ledger.asked
        await a_world.seen.until("kopf to watch", lambda: asked("GET", "/botsessions", watch=True))
        uid = await a_world.session()
        await a_world.seen.until("the room to be asked for", lambda: asked("POST", "/v1/rooms"))
        await a_world.delete_session()
        await a_world.seen.until("its deletion", lambda: asked("DELETE", "/v1/rooms/"))
        deleted.set()
        await a_world.seen.until("the room", lambda: a_world.rooms_made(uid) == 1)
        await a_world.seen.until("no room", lambda: not a_world.rooms())


@pytest.mark.timeout(400)
async def test_silence_and_a_minute_without_anybody(worlds, cluster: Cluster):
    """Both take their time: they pass at once."""
    async with asyncio.TaskGroup() as group:
        group.create_task(silent_watches(worlds, cluster))
        for side in ("kubernetes", "daily", "both"):
            group.create_task(nobody_for_a_minute(worlds, cluster, side))


async def silent_watches(worlds, cluster: Cluster) -> None:
    """The connections stay open and tell nothing: a session made, and one ended, meanwhile are noticed."""
    async with worlds() as world, Instance(world, cluster) as instance, kept_alive(instance):
        await world.bot()
        uid = await world.session(session=QUICK)
        await world.seen.until("Running", lambda: world.seen.status(uid).get("phase") == "Running")
        instance.kubernetes.silence_watches()
        await world.hang_up(uid, said=USER_LEFT)
        late = await world.session("late", session=QUICK)
        await world.seen.until("late", lambda: world.seen.status(late).get("phase") == "Running", SILENCE_ENDS_S)
        await world.hang_up(late, said=USER_LEFT)
        for each in (uid, late):
            await ended_well(world, each, SILENCE_ENDS_S)
        assert len(instance.operators) == 1, "it did not have to be started again"


async def nobody_for_a_minute(worlds, cluster: Cluster, side: str) -> None:
    """A session runs, one starts, one is made while nobody answers."""
    async with worlds() as world, Instance(world, cluster) as instance, kept_alive(instance):
        await world.bot()
        uids = [await world.session("running", session=QUICK)]
        await world.seen.until("Running", lambda: world.seen.status(uids[0]).get("phase") == "Running")
        instance.ledger.rule = lambda call: down(call) if side in (call.side, "both") else None
        if side != "daily":
            instance.kubernetes.cut_watches()
        uids.append(await world.session("made-meanwhile", session=QUICK))
        await world.hang_up(uids[0], said=USER_LEFT)
        await asyncio.sleep(DOWN_S)
        instance.ledger.rule = passing
        await world.seen.until("Running", lambda: world.seen.status(uids[1]).get("phase") == "Running")
        await world.hang_up(uids[1], said=USER_LEFT)
        for uid in uids:
            await world.seen.until("its end", lambda uid=uid: world.seen.status(uid).get("endReason") == "UserLeft")
        await world.seen.until("nothing to be left", lambda: not world.seen.left())
        if world.rooms():
            # Given up while Daily was away: the sweep finds it at the next start after ten minutes, or by itself.
            world.age_rooms()
            instance.operator.kill()
        await world.seen.until("no room", lambda: not world.rooms())
        if side == "daily":
            assert len(instance.operators) == 1, "it had to be started again"
        for uid in uids:
            assert (world.seen.made(JOBS, uid), world.seen.made(SECRETS, uid), world.rooms_made(uid)) == (1, 1, 1)
