"""A steady stream of sessions under seeded faults; at the end nothing is left anywhere, the operator's memory included.

A minute of it here; ``make soak MINUTES=60`` for more.
"""

import asyncio
import os
import random
import statistics
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_operator.kube import JOBS, PODS, SECRETS
from support.faults import Kind, by_chance
from support.proxy import passing
from support.words import USER_LEFT
from support.world import Instance, World, kept_alive

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(0)]

MINUTES: Final = float(os.environ.get("PIPECAT_SOAK_MINUTES", "1"))
SEED: Final = int(os.environ.get("PIPECAT_SOAK_SEED", "1"))
EVERY_S: Final = 0.4
"""Between two new sessions."""
LIVES_S: Final = (0.5, 6.0)
WEATHER_S: Final = 5.0
"""Faults come and go so often."""
CHANCE: Final = 0.1
QUIET_S: Final = 60
"""In which everything is let go of, connections kept alive included."""
LIMITS: Final = {"ttlSecondsAfterFinished": 2, "terminationGracePeriodSeconds": 1}
WARM_BYTES: Final = 32 * 2**20
"""What the operator's memory may rise by until it is warm."""
WARM: Final = 1000
"""Sessions after which it is."""
BYTES_PER_SESSION: Final = 8 * 1024
"""Then it may rise by less than this for each that was: one session's objects alone are more."""

QUIET_GAUGES: Final = ("pipecat_sessions", "pipecat_queue_depth", "pipecat_rooms_to_delete")
GAUGES: Final = ("pipecat_tasks", "process_open_fds")
SPARE_SOCKETS: Final = 4
"""Watches that were begun again may have left a connection in the pool."""


class Soak:
    """The stream, and what is measured of it."""

    def __init__(self, world: World, instance: Instance) -> None:
        self.world = world
        self.instance = instance
        self.chance = random.Random(SEED)
        self.memory: list[tuple[int, float]] = []
        """Sessions made, and the operator's resident bytes then."""
        self.uids: list[str] = []

    async def run(self, seconds: float) -> None:
        """Make sessions for so long, each of which ends somehow; then fair weather."""
        ends = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as lives:
            weather = lives.create_task(self.change_the_weather())
            while asyncio.get_running_loop().time() < ends:
                lives.create_task(self.one_life(f"s{len(self.uids)}"))
                await asyncio.sleep(EVERY_S)
                self.memory.append((len(self.uids), (await self.metrics())["process_resident_memory_bytes"]))
            weather.cancel()
        self.instance.ledger.rule = passing

    async def one_life(self, name: str) -> None:
        """A session that ends by its user, its bot, its cluster, or before it began."""
        uid = await self.world.session(name, session=LIMITS)
        self.uids.append(uid)
        end: Callable[[], Awaitable[None]] = self.chance.choice(
            [
                lambda: self.world.stop(name),
                lambda: self.world.delete_session(name),
                lambda: self.hang_up(uid, 0),
                lambda: self.hang_up(uid, 70),
                lambda: self.kill_pod(uid),
            ]
        )
        await asyncio.sleep(self.chance.uniform(*LIVES_S))
        await end()

    async def hang_up(self, uid: str, code: int) -> None:
        await self.world.seen.until("a pod", lambda: self.world.seen.of(PODS, uid))
        await self.world.hang_up(uid, code, USER_LEFT if code == 0 else None)

    async def kill_pod(self, uid: str) -> None:
        await self.world.seen.until("a pod", lambda: self.world.seen.of(PODS, uid))
        for pod in self.world.seen.of(PODS, uid):
            await self.world.delete(PODS, pod["metadata"]["name"])

    async def change_the_weather(self) -> None:
        while True:
            self.instance.ledger.rule = by_chance(Kind, CHANCE, self.chance.randrange(1000))
            await asyncio.sleep(WEATHER_S)
            self.instance.ledger.rule = passing
            if self.chance.random() < 0.5:
                self.instance.kubernetes.cut_watches()
            await asyncio.sleep(WEATHER_S)

    def slope(self) -> float:
        """Bytes by which the operator's memory rises for each session that was, in the second half of the run."""
        made, resident = zip(*self.memory[len(self.memory) // 2 :], strict=True)
        return statistics.linear_regression(made, resident).slope

    async def metrics(self) -> dict[str, float]:
        """By name; of those with labels, the sum."""
        found: dict[str, float] = {}
        for line in (await self.instance.scrape()).splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name = series.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
        return found


async def test_nothing_grows_and_nothing_is_left(a_world: World, cluster: Cluster):
    await a_world.bot()
    async with Instance(a_world, cluster) as instance, kept_alive(instance):
        await instance.until_logged("Ready:")
        soak = Soak(a_world, instance)
        await soak.one_life("first")
        before = await settled(soak, {})
        try:
            await soak.run(MINUTES * 60)
            await a_world.seen.until("nothing to be left", lambda: not a_world.seen.left(), wait_s=120)
            assert len(instance.operators) == 1, "it had to be started again"
            await a_world.seen.until("no room", lambda: not a_world.rooms(), wait_s=120)
            after = await settled(soak, before)
        except BaseException as error:
            left = [name[-36:] for name in a_world.rooms()]
            error.add_note("\n".join(line for line in instance.log().splitlines() if any(uid in line for uid in left)))
            raise
        for uid in soak.uids:
            made = (a_world.seen.made(JOBS, uid), a_world.seen.made(SECRETS, uid))
            # Deleted in the middle of a start: what the next try makes anew, for nobody, is collected at once.
            deleted = "endReason" not in a_world.seen.status(uid)
            assert max(made) <= (2 if deleted else 1), (uid, made)
            assert a_world.rooms_made(uid) <= 1, uid
        print(f"\n{len(soak.uids)} sessions, memory {soak.slope():.0f} bytes a session")
        assert not any(after[gauge] for gauge in QUIET_GAUGES), after
        assert after["pipecat_tasks"] <= before["pipecat_tasks"], after
        assert after["process_open_fds"] <= before["process_open_fds"] + SPARE_SOCKETS, after
        risen = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
        assert risen < WARM_BYTES + BYTES_PER_SESSION * len(soak.uids), after
        if len(soak.uids) > 2 * WARM:
            assert soak.slope() < BYTES_PER_SESSION


async def settled(soak: Soak, before: dict[str, float]) -> dict[str, float]:
    """What the metrics say once all is as quiet as it was before, or QUIET_S have passed."""
    ends = asyncio.get_running_loop().time() + QUIET_S
    while True:
        now = await soak.metrics()
        quiet = not any(now[gauge] for gauge in QUIET_GAUGES) and not soak.world.seen.left()
        as_before = all(now[gauge] <= before[gauge] for gauge in GAUGES if gauge in before)
        if (quiet and as_before) or asyncio.get_running_loop().time() > ends:
            return now
        await asyncio.sleep(0.2)
