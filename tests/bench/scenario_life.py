"""CPU of a whole session life: created, started, joined, ended, deleted after its TTL."""

import asyncio
import sys

from bench.load import Pods, hang_up, session_object, steadily, until_gone
from bench.report import Row
from bench.shares import HTTP, KOPF, LOOP, OWN, Shares
from bench.usage import cpu_s
from bench.world import PLENTY, Site, World
from pipecat_operator.kube import JOBS, PODS, SESSIONS
from support.operated import Child
from support.words import WRITES

RATE = 20
TTL_S = 2
IDLE_S = 10


async def run(world: World, size: float) -> list[Row]:
    """400 lives at 20/s, watched by the operator and both floors at once."""
    count = max(20, int(400 * size))
    async with world.site() as site:
        site.begin(**PLENTY)
        kopf, watch = (_floor(site, kind) for kind in ("kopf", "watch"))
        watchers = {"operator": site.operator.pid, "kopf": kopf.pid, "watch": watch.pid}
        await lives(world, site, 20)
        before = {name: cpu_s(pid) for name, pid in watchers.items()}
        calls_before, writes_before = site.daily_calls(), site.writes()
        await lives(world, site, count)
        used = {name: (cpu_s(pid) - before[name]) * 1000 / count for name, pid in watchers.items()}
        calls, writes = site.daily_calls() - calls_before, site.writes() - writes_before
        async with Shares(site.operator.pid, world.folder) as shares:
            await lives(world, site, count)
        idle = cpu_s(site.operator.pid)
        await asyncio.sleep(IDLE_S)
        idle = (cpu_s(site.operator.pid) - idle) * 1000 / IDLE_S
        for child in (kopf, watch):
            assert child.ended() is None, child.log()
            child.stop(kill=True)
    total = used["operator"]
    made = sum(writes[kind] for kind in WRITES) / count
    own = total * shares.share(OWN)
    rows = [
        Row("life", "operator CPU, floor: kopf no-op", total, "ms", used["kopf"]),
        Row("life", "operator CPU, floor: bare watch", total, "ms", used["watch"], "<= 10 ms", total <= 10),
        Row("life", "of it our own code", own, "ms", None, "<= 3 ms", own <= 3),
        *(Row("life", f"of it {owner}", total * shares.share(owner), "ms") for owner in (KOPF, HTTP, LOOP)),
        Row("life", "operator CPU with nothing to do", idle, "ms/s"),
        Row("life", "API writes", made, "", None, "5", made == 5),
        Row("life", "Daily calls", calls.total() / count, "", None, "<= 2", calls.total() <= 2 * count),
    ]
    modules = shares.modules.most_common(8)
    return rows + [Row("life", f"  {name}", total * share / shares.counts.total(), "ms") for name, share in modules]


async def lives(world: World, site: Site, count: int) -> None:
    """So many, to the end of their TTL."""
    ended = site.metric("pipecat_sessions_ended_total")
    async with Pods.of(world.api, site.namespace) as pods:
        session = session_object(TTL_S)
        await steadily([world.api.create(SESSIONS, site.namespace, session) for _ in range(count)], RATE)
        await pods.until(count, 60)
        await site.until_metric('pipecat_sessions{phase="Running"}', count)
        await steadily([hang_up(world.api, site.namespace, name) for name in pods.names.values()], RATE)
    await site.until_metric("pipecat_sessions_ended_total", ended + count)
    await until_gone(world.api, site.namespace, SESSIONS, JOBS, PODS)


def _floor(site: Site, kind: str) -> Child:
    command: list[str] = [sys.executable, "-m", "bench.floors", kind, site.namespace]
    env = {"KUBECONFIG": str(site.cluster.kubeconfig), "PYTHONPATH": ":".join(p for p in sys.path if p)}
    return Child(command, env, site.folder / f"{kind}.log")
