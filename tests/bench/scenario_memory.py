"""Memory before, during and after sessions, again and again: it comes back."""

import asyncio

from bench.load import Pods, at_once, hang_up, session_object, until_gone
from bench.report import Row
from bench.usage import rss_mb
from bench.world import PLENTY, Site, World
from pipecat_operator.kube import JOBS, PODS, SESSIONS

ROUNDS = 12
SETTLED = 9
"""From here on nothing should be kept more: the first ones, and the first resync and sweep, fill the allocator."""
TTL_S = 5
SETTLE_S = 3


async def run(world: World, size: float) -> list[Row]:
    """500 at a time, 12 times."""
    count = max(20, int(500 * size))
    async with world.site() as site:
        pid = site.begin(**PLENTY).pid
        fresh = rss_mb(pid)
        during, after = [], []
        for number in range(1, ROUNDS + 1):
            during.append(await _until_running(world, site, count, pid, number))
            await until_gone(world.api, site.namespace, SESSIONS, JOBS, PODS)
            await asyncio.sleep(SETTLE_S)
            after.append(rss_mb(pid))
    per_1000 = (during[-1] - after[-1]) * 1000 / count
    growth = (after[-1] - after[SETTLED - 1]) / (ROUNDS - SETTLED)
    return [
        Row("memory", "RSS before", fresh, "MB"),
        Row("memory", f"RSS during {count} live, round {ROUNDS}", during[-1], "MB", fresh),
        Row("memory", f"RSS after, round {ROUNDS}", after[-1], "MB", fresh),
        Row("memory", "RSS of 1,000 live", per_1000, "MB"),
        Row("memory", f"RSS kept more after each round from {SETTLED} on", growth, "MB", None, "<= 1 MB", growth <= 1),
    ]


async def _until_running(world: World, site: Site, count: int, pid: int, number: int) -> float:
    async with Pods.of(world.api, site.namespace) as pods:
        session = session_object(TTL_S)
        await at_once([world.api.create(SESSIONS, site.namespace, session) for _ in range(count)])
        await pods.until(count, 300)
        await site.until_metric('pipecat_sessions{phase="Running"}', count)
        await asyncio.sleep(SETTLE_S)
        rss = rss_mb(pid)
        await at_once([hang_up(world.api, site.namespace, name) for name in pods.names.values()])
    await site.until_metric("pipecat_sessions_ended_total", count * number)
    return rss
