"""Many sessions at once: how long until every pod runs."""

import time

from bench.load import CONCURRENCY, Maker, Pods, at_once, make_all_writes, make_job, make_session
from bench.report import Row
from bench.usage import all_cpu_s
from bench.world import PLENTY, World

ROUNDS = 2
"""The best of them counts: others may use the machine."""
TIMEOUT_S = 600


async def run(world: World, size: float) -> list[Row]:
    """1,000 at concurrency 50."""
    count = max(20, int(1000 * size))
    makers: tuple[Maker, ...] = (make_job, make_all_writes, make_session)
    measured: dict[Maker, list[tuple[float, float]]] = {maker: [] for maker in makers}
    await _once(world, make_job, 50)
    for _ in range(ROUNDS):
        for maker in makers:
            measured[maker].append(await _once(world, maker, count))
    took, cpu = ([min(x[of] for x in measured[maker]) for maker in makers] for of in (0, 1))
    what = f"{count} at concurrency {CONCURRENCY} until every pod runs"
    everything = "the same, CPU of everything per session"
    return [
        Row("burst", f"{what}, floor: bare Jobs", took[2], "s", took[0], "<= 1.4 x", took[2] <= 1.4 * took[0]),
        Row("burst", f"{what}, floor: the same writes", took[2], "s", took[1], "<= 1.15 x", took[2] <= 1.15 * took[1]),
        Row("burst", f"{everything}, floor: bare Jobs", cpu[2] * 1000 / count, "ms", cpu[0] * 1000 / count),
        Row("burst", f"{everything}, floor: the same writes", cpu[2] * 1000 / count, "ms", cpu[1] * 1000 / count),
    ]


async def _once(world: World, maker: Maker, count: int) -> tuple[float, float]:
    """Seconds, and seconds of CPU of the control plane, kwok, Daily, operator and load."""
    async with world.site() as site:
        if maker is make_session:
            site.begin(**PLENTY)
        async with Pods.of(world.api, site.namespace) as pods:
            began, cpu = time.monotonic(), all_cpu_s()
            await at_once([maker(world.api, site.namespace) for _ in range(count)])
            await pods.until(count, TIMEOUT_S)
            return time.monotonic() - began, all_cpu_s() - cpu
