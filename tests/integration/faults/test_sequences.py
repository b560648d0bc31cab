"""Hypothesis drives users, faults and restarts in any order; then the faults stop, and everything is as it should be.

More of it: ``PIPECAT_TEST_SEQUENCES=200 pytest tests/integration/faults/test_sequences.py``; the seed of a run is
``--hypothesis-seed``.
"""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from pipecat_operator.kube import BOTS, JOBS, PODS, SECRETS, NotFound
from support.faults import Kind, by_chance
from support.forks import Zygote
from support.proxy import Side, passing
from support.taints import tainted
from support.words import USER_LEFT
from support.world import Instance, World, kept_alive, world

MORE: Final = os.environ.get("PIPECAT_TEST_SEQUENCES")
EXAMPLES: Final = int(MORE or "10")
LONGEST: Final = 14
SESSIONS_AT_MOST: Final = 6
CALLS: Final = 8
"""A step lets the operator make about so many calls before the next one, or as many as it wants to."""
IDLE_S: Final = 0.5
"""It has no call to make."""
CONVERGED_S: Final = 60
LIMITS: Final = {"ttlSecondsAfterFinished": 1, "terminationGracePeriodSeconds": 1, "startTimeoutSeconds": 60}
CHANCE: Final = 0.3

USERS: Final = (
    *("create", "create", "create-hasty", "create-own-room"),
    *("stop", "delete", "hang-up", "bot-changed", "bot-deleted"),
)
CLUSTER: Final = ("pod-killed", "node-gone", "watches-cut")
OPERATOR: Final = ("restart", "kill")

Step = tuple[str, int]
"""What happens, and a number: which session, or the seed of the faults."""

steps = st.lists(
    st.tuples(st.sampled_from((*USERS, *CLUSTER, *OPERATOR, "faults", "faults", "fair")), st.integers(0, 999)),
    min_size=4,
    max_size=LONGEST,
).map(lambda some: [("create", 0), *some])


@dataclass
class Drive:
    """One sequence being driven."""

    world: World
    instance: Instance
    pool: str
    uids: dict[str, str] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    may_end: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The reasons each session may have ended for, given what was done to it."""

    async def take(self, step: Step) -> None:
        """One step; what it means to do may be impossible by now."""
        what, number = step
        do: dict[str, Callable[[int], Awaitable[None]]] = {
            "create": self.create,
            "create-hasty": self.create_hasty,
            "create-own-room": self.create_in_a_room_of_its_own,
            "stop": self.stop,
            "delete": self.delete,
            "hang-up": self.hang_up,
            "bot-changed": self.change_bot,
            "bot-deleted": self.delete_bot,
            "pod-killed": self.kill_pod,
            "node-gone": self.lose_node,
            "watches-cut": self.cut_watches,
            "restart": self.restart,
            "kill": self.kill,
            "faults": self.fail,
            "fair": self.clear_up,
        }
        with contextlib.suppress(NotFound):
            await do[what](number)
        await self.settle()

    async def settle(self) -> None:
        """Let the operator work on it: some calls, or until it is idle."""
        calls, loop = self.instance.ledger.calls, asyncio.get_running_loop()
        most, last, since = len(calls) + CALLS, len(calls), loop.time()
        while len(calls) < most and loop.time() - since < IDLE_S:
            if len(calls) != last:
                last, since = len(calls), loop.time()
            await asyncio.sleep(0.01)

    def one(self, number: int) -> str:
        """A session that was made."""
        return list(self.uids)[number % len(self.uids)]

    async def create(self, _: int) -> None:
        if len(self.uids) < SESSIONS_AT_MOST:
            name = f"s{len(self.uids)}"
            self.uids[name] = await self.world.session(name, session=LIMITS)

    async def create_hasty(self, _: int) -> None:
        """It is given up soon, whatever the operator is at."""
        if len(self.uids) < SESSIONS_AT_MOST:
            name = f"s{len(self.uids)}"
            self.may_end[name] |= {"StartTimeout", "RoomFailed", "BotNotFound", "Unschedulable"}
            self.uids[name] = await self.world.session(name, session=LIMITS | {"startTimeoutSeconds": 1})

    async def create_in_a_room_of_its_own(self, _: int) -> None:
        """Nothing at Daily is its."""
        if len(self.uids) < SESSIONS_AT_MOST:
            name = f"s{len(self.uids)}"
            own = {"url": "https://example.test/own", "tokenSecretRef": {"name": "own"}}
            self.uids[name] = await self.world.session(name, session=LIMITS, room=own)

    async def stop(self, number: int) -> None:
        self.may_end[self.one(number)].add("Stopped")
        await self.world.stop(self.one(number))

    async def delete(self, number: int) -> None:
        self.deleted.add(self.one(number))
        await self.world.delete_session(self.one(number))

    async def hang_up(self, number: int) -> None:
        name = self.one(number)
        if self.world.seen.of(PODS, self.uids[name]):
            self.may_end[name].add("UserLeft")
            await self.world.hang_up(self.uids[name], said=USER_LEFT)

    async def change_bot(self, number: int) -> None:
        image = [{"op": "replace", "path": "/spec/image", "value": f"bot:{number}"}]
        await self.world.kube.json_patch(BOTS, self.world.namespace, "bot", image)

    async def delete_bot(self, _: int) -> None:
        """For good: who has no Job yet, waits for it until it is asked to stop."""
        await self.world.delete(BOTS, "bot")

    async def kill_pod(self, number: int) -> None:
        name = self.one(number)
        self.may_end[name].add("BotDeleted")
        for pod in self.world.seen.of(PODS, self.uids[name]):
            await self.world.delete(PODS, pod["metadata"]["name"])

    async def lose_node(self, _: int) -> None:
        for name in self.uids:
            self.may_end[name].add("NodeLost")
        async with tainted(self.world.kube, f"{self.pool}-0"):
            await self.settle()

    async def cut_watches(self, _: int) -> None:
        self.instance.kubernetes.cut_watches()

    async def restart(self, _: int) -> None:
        self.instance.operator.end()

    async def kill(self, _: int) -> None:
        self.instance.operator.kill()

    async def fail(self, number: int) -> None:
        sides = [{Side.KUBERNETES}, {Side.DAILY}, set(Side)][number % 3]
        self.instance.ledger.rule = by_chance(Kind, CHANCE, number, sides)

    async def clear_up(self, _: int) -> None:
        self.instance.ledger.rule = passing

    async def converge(self) -> None:
        """Faults stop, everybody who is not gone is asked to stop; nothing is left, and nothing was made twice."""
        self.instance.ledger.rule = passing
        seen = self.world.seen
        for name, uid in self.uids.items():
            if "endReason" not in seen.status(uid):
                self.may_end[name].add("Stopped")
            with contextlib.suppress(NotFound):
                await self.world.stop(name)
        await seen.until("nothing to be left", lambda: not seen.left(), CONVERGED_S)
        if self.world.rooms():
            self.world.age_rooms()
            self.instance.operator.kill()
        await seen.until("no room", lambda: not self.world.rooms(), CONVERGED_S)
        for name, uid in self.uids.items():
            # Deleted in the middle of a start: the collector takes a Secret or Job that the next try makes anew for
            # nobody, before the watch tells of the deletion; it is collected, too.
            most = 2 if name in self.deleted else 1
            assert max(seen.made(JOBS, uid), seen.made(SECRETS, uid)) <= most, name
            assert self.world.rooms_made(uid) <= 1, name
            reason = seen.status(uid).get("endReason")
            assert reason in self.may_end[name] or name in self.deleted, (name, reason, seen.status(uid))


async def drive(cluster: Cluster, pool: str, zygote: Zygote, folder, sequence: list[Step]) -> None:
    async with world(cluster, pool, zygote, folder) as there, Instance(there, cluster) as instance:
        await there.bot()
        try:
            async with kept_alive(instance):
                driven = Drive(there, instance, pool)
                for step in sequence:
                    await driven.take(step)
                await driven.converge()
        except BaseException as error:
            error.add_note(f"{sequence}\n{instance.story()}")
            raise


@pytest.mark.timeout(3600)
def test_any_sequence_converges(cluster: Cluster, tmp_path):
    pool = f"pool-{tmp_path.name[:20].replace('_', '-')}-{os.getpid()}"
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        nodes, zygote = KwokNodes(cluster, tmp_path, pool=pool), Zygote()
        for context in (nodes, zygote):
            runner.run(context.__aenter__())
            stack.callback(lambda context=context: runner.run(context.__aexit__(None, None, None)))

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=MORE is None,
            database=None,
            suppress_health_check=list(HealthCheck),
            # A shrink would take an hour; a failure tells its whole story.
            phases=[Phase.explicit, Phase.generate],
        )
        @given(steps)
        def converges(sequence: list[Step]) -> None:
            runner.run(drive(cluster, pool, zygote, tmp_path, sequence))

        converges()
