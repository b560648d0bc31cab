"""Many sessions at once: how long until every pod runs."""

import time
from dataclasses import astuple, dataclass

from bench.load import CONCURRENCY, Maker, Pods, at_once, make_all_writes, make_job, make_session
from bench.report import Row
from bench.usage import all_cpu_s, cpu_s
from bench.world import PLENTY, World
from support.operated import Child

ROUNDS = 2
"""The best of them counts: others may use the machine."""
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds on the clock; and of CPU: of everything (control plane, kwok, Daily, operator, load), and of parts."""

    took_s: float
    cpu_s: float
    daily_s: float
    operator_s: float

    def since(self, before: "Cost") -> "Cost":
        """What was spent from then to now."""
        return Cost(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


async def run(world: World, size: float) -> list[Row]:
    """1,000 at concurrency 50."""
    count = max(20, int(1000 * size))
    makers: tuple[Maker, ...] = (make_job, make_all_writes, make_session)
    costs: dict[Maker, list[Cost]] = {maker: [] for maker in makers}
    await _once(world, make_job, 50)
    for _ in range(ROUNDS):
        for maker in makers:
            costs[maker].append(await _once(world, maker, count))
    took = [min(cost.took_s for cost in costs[maker]) for maker in makers]
    jobs, writes, sessions = (min(costs[maker], key=lambda cost: cost.cpu_s) for maker in makers)
    what = f"{count} at concurrency {CONCURRENCY} until every pod runs"
    everything, each = "the same, CPU of everything per session", 1000 / count
    return [
        Row("burst", f"{what}, floor: bare Jobs", took[2], "s", took[0], "<= 1.4 x", took[2] <= 1.4 * took[0]),
        Row("burst", f"{what}, floor: the same writes", took[2], "s", took[1], "<= 1.15 x", took[2] <= 1.15 * took[1]),
        Row("burst", f"{everything}, floor: bare Jobs", sessions.cpu_s * each, "ms", jobs.cpu_s * each),
        Row("burst", f"{everything}, floor: the same writes", sessions.cpu_s * each, "ms", writes.cpu_s * each),
        Row("burst", "  of it the operator", sessions.operator_s * each, "ms"),
        Row("burst", "  of it the Daily stand-in", sessions.daily_s * each, "ms"),
    ]


async def _once(world: World, maker: Maker, count: int) -> Cost:
    async with world.site() as site:
        operator = site.begin(**PLENTY) if maker is make_session else None
        async with Pods.of(world.api, site.namespace) as pods:
            before = _spent(site.daily, operator)
            await at_once([maker(world.api, site.namespace) for _ in range(count)])
            await pods.until(count, TIMEOUT_S)
            return _spent(site.daily, operator).since(before)


def _spent(daily: Child, operator: Child | None) -> Cost:
    return Cost(time.monotonic(), all_cpu_s(), cpu_s(daily.pid), cpu_s(operator.pid) if operator else 0.0)
