"""Many live sessions: what they cost while a few come and go, at a restart, at a resync, at a sweep."""

import asyncio
import time

from bench.load import CLEAN_S, Pods, at_once, hang_up, remove_all, session_object, steadily, until_gone
from bench.report import Row, told
from bench.usage import cpu_s, peak_rss_mb, rss_mb
from bench.world import PLENTY, Site, World
from pipecat_local.processes import until
from pipecat_operator.kube import JOBS, PODS, SESSIONS

LEVELS = (1000, 3000, 10000)
BATCH = 250
RATE = 10
CHURN_S = 60
TTL_S = 30
NEVER = "1000000"
EVERY_S = 20
TIMES = 3
IDLE_CORES = 0.03


async def run(world: World, size: float) -> list[Row]:
    """Up to 10,000 live, 10/s of them replaced at each level; TTL 30 s."""
    rows: list[Row] = []
    levels = [int(level * size) for level in LEVELS]
    async with world.site() as site, Pods.of(world.api, site.namespace) as pods:
        site.begin(**PLENTY)
        empty = rss_mb(site.operator.pid)
        churned = {}
        for live in levels:
            rows += told(await _grow(world, site, pods, live))
            churn = await _churn(world, site, pods, live)
            churned[live] = churn[0].figure
            rows += told(churn)
        least, most = churned[levels[0]], churned[levels[-1]]
        flat = "CPU per session as live ones grow, floor: at the fewest"
        rows.append(Row("population", flat, most, "ms", least, "<= 1.2 x", most <= 1.2 * least))
        rows += told(await _restart(world, site, pods, levels[-1]))
        rows += told(await _repeated(site, levels[-1]))
        await remove_all(world.api, site.namespace, SESSIONS)
        await until_gone(world.api, site.namespace, SESSIONS, JOBS, PODS)
        await _idle(site)
        rows.append(Row("population", "RSS after all are gone, floor: before", rss_mb(site.operator.pid), "MB", empty))
    return rows


async def _grow(world: World, site: Site, pods: Pods, live: int) -> list[Row]:
    missing = live - len(pods.names)
    before = cpu_s(site.operator.pid)
    session = session_object(TTL_S)
    # No more at once than the cluster takes: what is measured is how many there are, not a burst.
    there = live - missing
    while there < live:
        some = min(BATCH, live - there)
        await at_once([world.api.create(SESSIONS, site.namespace, session) for _ in range(some)])
        there += some
        await site.until_metric('pipecat_sessions{phase="Running"}', there)
    used = (cpu_s(site.operator.pid) - before) * 1000 / missing
    return [Row("population", f"{live} live: CPU per session until it is Running", used, "ms")]


async def _churn(world: World, site: Site, pods: Pods, live: int) -> list[Row]:
    """As many end as are made."""
    await _idle(site)
    count = min(RATE * CHURN_S, live)
    leaving = list(pods.names.items())[:count]
    session = session_object(TTL_S)

    async def replace(uid: str, pod: str) -> None:
        await hang_up(world.api, site.namespace, pod)
        del pods.names[uid]
        await world.api.create(SESSIONS, site.namespace, session)

    pid = site.operator.pid
    before, began = cpu_s(pid), time.monotonic()
    await steadily([replace(*one) for one in leaving], RATE)
    took, rss = time.monotonic() - began, rss_mb(pid)
    share = (cpu_s(pid) - before) / took
    # The last ones' TTL.
    await asyncio.sleep(TTL_S)
    await _idle(site)
    used = (cpu_s(pid) - before) * 1000 / count
    what = f"{live} live, {RATE}/s replaced, TTL {TTL_S} s:"
    return [
        Row("population", f"{what} CPU per session", used, "ms"),
        Row("population", f"{what} cores", share, "", None, "< 0.5", share < 0.5),
        Row("population", f"{what} RSS", rss, "MB", None, "< 300 MB", rss < 300),
    ]


async def _restart(world: World, site: Site, pods: Pods, live: int) -> list[Row]:
    """One session was made and one ended while no operator ran: caught up is when both are told of."""
    site.operator.stop()
    uid, pod = next(iter(pods.names.items()))
    await hang_up(world.api, site.namespace, pod)
    del pods.names[uid]
    made = await world.api.create(SESSIONS, site.namespace, session_object(TTL_S))
    began = time.monotonic()
    site.begin(**PLENTY, PIPECAT_OPERATOR_RESYNC_SECONDS=NEVER)
    await site.until_metric("pipecat_sessions_ended_total", 1)
    await until("the new session's pod", lambda: _is_in(made["metadata"]["uid"], pods), CLEAN_S)
    took = time.monotonic() - began
    await _idle(site)
    pid = site.operator.pid
    return [
        Row("population", f"restart with {live} live: until caught up", took, "s"),
        Row("population", f"restart with {live} live: CPU, first sweep included", cpu_s(pid), "s"),
        Row("population", f"restart with {live} live: peak RSS", peak_rss_mb(pid), "MB"),
        Row("population", f"restart with {live} live: RSS afterwards", rss_mb(pid), "MB"),
    ]


async def _repeated(site: Site, live: int) -> list[Row]:
    """What comes back every few minutes, made to come every 20 s."""
    rows = []
    settings = {"resync": "PIPECAT_OPERATOR_RESYNC_SECONDS", "sweep": "PIPECAT_OPERATOR_SWEEP_SECONDS"}
    for what, setting in settings.items():
        site.operator.stop()
        site.begin(**PLENTY, **dict.fromkeys(settings.values(), NEVER) | {setting: str(EVERY_S)})
        await _idle(site)
        pid = site.operator.pid
        before, cpu, began = peak_rss_mb(pid), cpu_s(pid), time.monotonic()
        await asyncio.sleep(EVERY_S * TIMES)
        per = (cpu_s(pid) - cpu) * 1000 * EVERY_S / (time.monotonic() - began)
        rows.append(Row("population", f"{what} with {live} live", per, "ms CPU"))
        rows.append(
            Row("population", f"{what} with {live} live: peak RSS above start's", peak_rss_mb(pid) - before, "MB")
        )
    return rows


async def _idle(site: Site) -> None:
    """Until the operator has nothing to do."""

    async def idle() -> bool:
        before = cpu_s(site.operator.pid)
        await asyncio.sleep(2)
        return (cpu_s(site.operator.pid) - before) / 2 < IDLE_CORES

    await until("the operator to be idle", idle, CLEAN_S)


async def _is_in(uid: str, pods: Pods) -> bool:
    return uid in pods.running_at
