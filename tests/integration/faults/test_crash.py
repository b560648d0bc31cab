"""The operator dies right before and right after each of its outside calls, and nothing is lost or made twice."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_operator.kube import JOBS, SECRETS, SESSIONS
from support.proxy import Call, Fault
from support.words import USER_LEFT
from support.world import QUICK, Instance, World, kept_alive

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

AT_ONCE: Final = 5
"""Lives that are led at the same time: each mostly waits."""
MOST_CALLS: Final = 200
"""A life of more calls than this never ends."""
AFTER_THE_END: Final = frozenset(
    {"PATCH kubernetes/apis/pipecat.dev/v1alpha1/namespaces/OWN/botsessions/s/status", "DELETE daily/v1/rooms/NAME"}
)
"""What may be called when the end was told: a crash there, then the TTL, and the room is an orphan."""


@dataclass(frozen=True)
class Life:
    """How a session is brought to its end, and the reason it then must have."""

    reason: str | None
    end: Callable[[World, str], Awaitable[None]]


LIVES: Final = {
    "end": Life("UserLeft", lambda world, uid: world.hang_up(uid, said=USER_LEFT)),
    "stop": Life("Stopped", lambda world, _: world.stop()),
    "failure": Life("BotFailed", lambda world, uid: world.hang_up(uid, code=70)),
    "delete": Life(None, lambda world, _: world.delete(SESSIONS, "s")),
}


@dataclass(frozen=True)
class Led:
    """What was seen of one life."""

    crashed_at: str | None
    """The call at which the operator died."""
    calls: frozenset[str]
    """Every call there was."""


@pytest.mark.parametrize("carried_out", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("life", LIVES)
async def test_a_crash_at_every_call(worlds, cluster: Cluster, life: str, carried_out: bool):
    led: list[Led] = []
    for first in range(1, MOST_CALLS, AT_ONCE):
        numbers = range(first, first + AT_ONCE)
        led += await asyncio.gather(
            *(lead(worlds, cluster, LIVES[life], lambda call, _, n=n: call.number == n, carried_out) for n in numbers)
        )
        if any(one.crashed_at is None for one in led):
            break
    else:
        pytest.fail(f"a life of {MOST_CALLS} calls and no end")
    # Calls that run at once come in any order: those that no number met are aimed at by what they are for.
    whole = frozenset.union(*(one.calls for one in led if one.crashed_at is None))
    for label in sorted(whole - {one.crashed_at for one in led}):
        led.append(await lead(worlds, cluster, LIVES[life], lambda _, said, label=label: said == label, carried_out))
    never = {label for label in whole - {one.crashed_at for one in led} if not label.startswith(("GET", "WATCH"))}
    assert not never, "writes that no crash met"


async def lead(worlds, cluster: Cluster, life: Life, crash: Callable[[Call, str], bool], carried_out: bool) -> Led:
    """One session's whole life, and one crash where ``crash`` says; everything that must hold is checked."""
    async with worlds() as world, Instance(world, cluster) as instance:
        crashed: list[str] = []
        late = life.reason is None

        def rule(call: Call) -> Fault | None:
            nonlocal late
            label = call.label(world.namespace)
            if crashed or not crash(call, label):
                return None
            crashed.append(label)
            late |= label in AFTER_THE_END or "endReason" in world.seen.status(uid)
            return Fault(carried_out=carried_out, then=instance.operator.kill)

        await world.bot()
        uid = await world.session(session=QUICK)
        instance.ledger.rule = rule
        try:
            async with kept_alive(instance):
                await world.seen.until("Running", lambda: world.seen.status(uid).get("phase") == "Running")
                # Whatever the pace: the Lease is renewed once at least, else that call could not be met.
                await world.seen.until("a renewal", lambda: instance.ledger.asked("PUT", "/leases/"))
                await life.end(world, uid)
                await world.seen.until("nothing to be left", lambda: not world.seen.left())
                await world.seen.until("no room, or a crash", lambda: (crashed and late) or not world.rooms())
                if world.rooms():
                    # An orphan, which the sweep finds: ten minutes later, or at the next start after them.
                    world.age_rooms()
                    instance.operator.kill()
                await world.seen.until("no room", lambda: not world.rooms())
        except BaseException as error:
            error.add_note(f"crash at {crashed}, carried out: {carried_out}\n{instance.story()}")
            raise
        made = (world.seen.made(JOBS, uid), world.seen.made(SECRETS, uid), world.rooms_made(uid))
        assert made == (1, 1, 1), (crashed, instance.story())
        assert world.seen.status(uid).get("endReason") == life.reason or life.reason is None, (
            crashed,
            instance.story(),
        )
        return Led(
            crashed[0] if crashed else None, frozenset(call.label(world.namespace) for call in instance.ledger.calls)
        )
