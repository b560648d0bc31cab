"""Each right of the operator is taken away in turn: something then fails, and says which right is missing."""

import asyncio
import json
from collections.abc import Callable
from typing import Final

import pytest

from pipecat_local.controlplane import Cluster
from support.proxy import Call, Fault, passing
from support.rights import OPERATOR, Right, rights_of
from support.words import USER_LEFT
from support.world import QUICK, Instance, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOLD_S: Final = 40.0

TRAPS: Final = {
    ("POST", "/secrets"): Fault(carried_out=True, status=503),
    ("PATCH", "/botsessions/"): Fault(status=404),
    ("DELETE", "/pods/"): Fault(status=409),
    ("DELETE", "/jobs/"): Fault(status=409),
}
"""What becomes of the first call of each kind: the operator then reads what is there."""

HOLD_UP_STARTS: Final = {("create", "secrets"), ("get", "secrets"), ("create", "jobs")}
HOLD_UP_ALL: Final = {("list", plural) for plural in ("botsessions", "bots", "jobs", "pods")} | {
    ("create", "configmaps"),
    ("get", "configmaps"),
}

RIGHTS: Final = rights_of(OPERATOR)


def traps() -> Callable[[Call], Fault | None]:
    """The rule of them."""
    left = dict(TRAPS)

    def rule(call: Call) -> Fault | None:
        met = next((trap for trap in left if call.method == trap[0] and trap[1] in call.path), None)
        return left.pop(met) if met else None

    return rule


async def a_day(world: World, instance: Instance) -> None:
    """Sessions that meet every call that the operator has: one ends by itself, one is stopped, one gets no pod."""
    instance.ledger.rule = traps()
    await world.bot()
    await world.bot("refused", podTemplate={"spec": {"serviceAccountName": "nobody"}})
    ends = await world.session("ends", session=QUICK)
    stopped = await world.session("stopped", session=QUICK)
    refused = await world.session("refused", bot="refused", session=QUICK)
    await instance.start()
    await world.seen.until("both to run", lambda: all(runs(world, uid) for uid in (ends, stopped)))
    await world.hang_up(ends, said=USER_LEFT)
    await world.stop("stopped")
    await world.seen.until("why there is no pod", lambda: world.seen.status(refused).get("message"))
    await world.stop("refused")
    await world.seen.until("nothing to be left", lambda: not world.seen.left())


def runs(world: World, uid: str) -> bool:
    """Whether the bot is in the room."""
    return bool(world.seen.status(uid).get("phase") == "Running")


async def test_with_all_of_them_nothing_is_refused(worlds, cluster: Cluster):
    async with worlds() as world, Instance(world, cluster) as instance:
        await a_day(world, instance)
        assert "forbidden" not in instance.log()


@pytest.mark.parametrize("resource", dict.fromkeys(right.resource for right in RIGHTS))
async def test_without_one_of_them_what_is_missing_is_told(worlds, cluster: Cluster, resource: str):
    async with asyncio.TaskGroup() as group:
        for right in RIGHTS:
            if right.resource == resource:
                group.create_task(a_day_without(worlds, cluster, right), name=str(right))


async def a_day_without(worlds, cluster: Cluster, right: Right) -> None:
    """Until what is missing was told wherever a user looks."""
    async with worlds() as world, Instance(world, cluster, without=right) as instance, asyncio.TaskGroup() as group:
        day = group.create_task(a_day(world, instance))
        action = right.verb, right.resource
        try:
            await world.seen.until(f"a word on {right}", lambda: told(instance, right), TOLD_S)
            if action in HOLD_UP_STARTS:
                await world.seen.until("a session's word on it", lambda: told_to_users(world, right), TOLD_S)
            if action in HOLD_UP_ALL:
                assert "the log says what" in await instance.scrape("readyz")
            if action == ("update", "leases"):
                await instance.operator.until_ended()
                assert "Leadership lost, ending at once" in instance.log()
        except BaseException as error:
            error.add_note(instance.story())
            raise
        day.cancel()


async def test_an_end_that_may_not_be_told_is_told_once_it_may(worlds, cluster: Cluster):
    message = 'botsessions.pipecat.dev "s" is forbidden: User "x" cannot patch resource "botsessions/status"'
    refused = Fault(status=403, text=json.dumps({"kind": "Status", "reason": "Forbidden", "message": message}))
    async with worlds() as world, Instance(world, cluster) as instance:
        await world.bot()
        uid = await world.session(session=QUICK)
        await instance.start()
        await world.seen.until("Running", lambda: runs(world, uid))
        instance.ledger.rule = lambda call: refused if "/botsessions/s/status" in call.path else None
        await world.hang_up(uid, said=USER_LEFT)
        await instance.until_logged("cannot patch resource")
        instance.ledger.rule = passing
        await world.seen.until("its end", lambda: world.seen.status(uid).get("endReason") == "UserLeft")


def told(instance: Instance, right: Right) -> bool:
    """Whether a warning says that it is missing."""
    lines = instance.log().splitlines() if instance.operators else []
    return any(right.refusal in line for line in lines if " WARNING " in line or " ERROR " in line)


def told_to_users(world: World, right: Right) -> bool:
    """Whether the status of a session says so, and what to do about it."""
    advice = "Give the operator's service account that right."
    return any(right.refusal in said and advice in said for said in world.seen.messages())
