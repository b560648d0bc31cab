"""Two operators at once: hand-over, takeover, a leader that comes back from the dead, two installations."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import until
from pipecat_operator import names
from pipecat_operator.kube import JOBS, LEASES, SECRETS
from support.words import USER_LEFT
from support.world import QUICK, Instance, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKEOVER: Final = timedelta(seconds=20)
AT_ONCE: Final = timedelta(seconds=6)
"""The other looks every 2 s; a Lease that was not given back would take 15."""


async def acquired_after(world: World, renewed: str) -> timedelta:
    """From then (the last renewal of the leader before) to this one's taking the Lease, as the Lease tells it."""
    spec = (await world.kube.get(LEASES, world.namespace, names.LEASE))["spec"]
    return datetime.fromisoformat(spec["acquireTime"]) - datetime.fromisoformat(renewed)


async def renewed_at(world: World) -> str:
    """The last renewal."""
    return str((await world.kube.get(LEASES, world.namespace, names.LEASE))["spec"]["renewTime"])


@contextlib.asynccontextmanager
async def leader_and_standby(
    world: World, cluster: Cluster, freeze_before: tuple[str, str] | None = None
) -> AsyncIterator[tuple[Instance, Instance]]:
    """The first leads, the second waits for the Lease."""
    async with Instance(world, cluster) as first, Instance(world, cluster) as second:
        await first.start(freeze_before)
        await first.until_logged("Ready:")
        await second.start()
        await second.until_logged("Listening")
        yield first, second


async def lead_to_the_end(world: World, uid: str) -> None:
    """From Running on; then nothing is left, and nothing was made twice."""
    await world.seen.until("Running", lambda: world.seen.status(uid).get("phase") == "Running")
    await world.hang_up(uid, said=USER_LEFT)
    await world.seen.until("nothing to be left", lambda: not world.seen.left())
    assert world.seen.status(uid)["endReason"] == "UserLeft"
    assert (world.seen.made(JOBS, uid), world.seen.made(SECRETS, uid), world.rooms_made(uid)) == (1, 1, 1)


async def test_sigterm_hands_over_before_the_lease_runs_out(a_world: World, cluster: Cluster):
    await a_world.bot()
    async with leader_and_standby(a_world, cluster) as (first, second):
        # Whose connection stays open: it must not be waited for.
        await first.scrape()
        asked = datetime.now(UTC).isoformat()
        first.operator.signal(signal.SIGTERM)
        await second.until_logged("Leading")
        assert await acquired_after(a_world, asked) < AT_ONCE
        await first.operator.until_ended()
        await lead_to_the_end(a_world, await a_world.session(session=QUICK))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_or_frozen_leader_is_followed_within_20_s(worlds, cluster: Cluster, number: signal.Signals):
    async with worlds() as world, leader_and_standby(world, cluster) as (first, second):
        await world.bot()
        renewed = await renewed_at(world)
        first.operator.signal(number)
        await second.until_logged("Leading")
        assert await acquired_after(world, renewed) < TAKEOVER
        await lead_to_the_end(world, await world.session(session=QUICK))


SENDS: Final = [
    ("POST", "/v1/rooms"),
    ("POST", "/secrets"),
    ("POST", "/jobs"),
    ("PATCH", "/botsessions/s/status"),
    ("DELETE", "/rooms/"),
    ("DELETE", "/botsessions/s"),
]


async def test_a_thawed_leader_sends_no_more_than_what_it_had_in_hand(worlds, cluster: Cluster):
    async with asyncio.TaskGroup() as group:
        for method, path in SENDS:
            group.create_task(thaw(worlds, cluster, method, path))


async def thaw(worlds, cluster: Cluster, method: str, path: str) -> None:
    """The leader is frozen right before it sends that, another takes over and ends the life, the first thaws."""
    async with worlds() as world, leader_and_standby(world, cluster, (method, path)) as (first, second):
        await world.bot()
        uid = await world.session(session=QUICK)
        if method == "DELETE":
            await world.seen.until("Running", lambda: world.seen.status(uid).get("phase") == "Running")
            await world.hang_up(uid, said=USER_LEFT)
        await until(f"the leader to be frozen before {method} {path}", first.is_frozen, 40)
        await second.until_logged("Ready:")
        sent = len(first.ledger.calls)
        if method == "DELETE":
            await world.seen.until("nothing to be left", lambda: not world.seen.left())
        else:
            await world.seen.until("Running", lambda: world.seen.status(uid).get("phase") == "Running")
        first.operator.signal(signal.SIGCONT)
        await first.operator.until_ended()
        assert "Leadership lost" in first.log()
        in_hand = first.ledger.calls[sent:]
        assert len(in_hand) <= 1, first.story()
        assert all(call.method == method and path in call.path for call in in_hand), first.story()
        assert not second.operator.ended
        if method != "DELETE":
            await lead_to_the_end(world, uid)
        assert (world.seen.made(JOBS, uid), world.seen.made(SECRETS, uid), world.rooms_made(uid)) == (1, 1, 1)


async def test_two_installations_on_one_domain_leave_each_others_rooms(worlds, cluster: Cluster):
    """Even if the name of one begins with that of the other, and every room is old enough to be an orphan."""
    async with worlds() as one, worlds() as other:
        other.domain = one.domain
        async with (
            Instance(one, cluster, PIPECAT_OPERATOR_INSTALLATION_ID="pc") as first,
            Instance(other, cluster, PIPECAT_OPERATOR_INSTALLATION_ID="pc-2") as second,
        ):
            uids = []
            for world, instance in ((one, first), (other, second)):
                await world.bot()
                uids.append(await world.session())
                await instance.start()
                await instance.until_logged("Starting -> Running")
            one.age_rooms()
            for world, instance in ((one, first), (other, second)):
                # It sweeps when it starts.
                instance.operator.kill()
                await world.free_lease()
                await instance.start()
                await instance.until_logged("Ready:")
                await world.delete_session()
            await one.seen.until("no room", lambda: not one.rooms())
            # Rooms are deleted one after the other: what a sweep found before is among these.
            for instance, room in ((first, f"pc-{uids[0]}"), (second, f"pc-2-{uids[1]}")):
                deleted = {
                    call.path for call in instance.ledger.calls if call.method == "DELETE" and "/v1/" in call.path
                }
                assert deleted == {f"/v1/rooms/{room}"}
