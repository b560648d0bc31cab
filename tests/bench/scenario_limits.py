"""Daily's real limits: the operator's defaults against a stand-in that counts as Daily does."""

import asyncio
import time
from datetime import datetime

from bench.load import Pods, at_once, hang_up, session_object
from bench.report import Row
from bench.usage import percentile
from bench.world import Site, World
from pipecat_operator.kube import SESSIONS

PACE = 20
"""Rooms a second that Daily allows."""


async def run(world: World, size: float) -> list[Row]:
    """300 at once; then these end while 300 more are made."""
    count = max(40, int(300 * size))
    async with world.site(limits=True) as site, Pods.of(world.api, site.namespace) as pods:
        site.begin()
        alone = await _made(world, site, pods, count)
        leaving = dict(pods.names)
        hung_up = asyncio.create_task(at_once([hang_up(world.api, site.namespace, n) for n in leaving.values()]))
        beside = await _made(world, site, pods, count)
        await hung_up
        await site.until_metric("pipecat_sessions_ended_total", count)
        waiting = site.metric("pipecat_rooms_to_delete")
        ends = _end_delays(site, set(leaving))
        calls = site.daily_calls()
    refused = sum(n for call, n in calls.items() if call.endswith(" 429"))
    return [
        Row(
            "limits",
            f"{count} at once, rooms made a second",
            count / alone,
            "/s",
            PACE,
            ">= 0.9 x",
            count / alone >= 0.9 * PACE,
        ),
        Row(
            "limits",
            "the same while as many are deleted, floor: without",
            beside,
            "s",
            alone,
            "<= 1.05 x",
            beside <= 1.05 * alone,
        ),
        Row("limits", "calls that Daily answered 429", refused, "", None, "0", refused == 0),
        Row("limits", "rooms waiting for their deletion when all had ended", waiting, ""),
        Row(
            "limits",
            "pod ended to session ended, p99",
            percentile(ends, 99),
            "s",
            None,
            "<= 2 s",
            percentile(ends, 99) <= 2,
        ),
    ]


async def _made(world: World, site: Site, pods: Pods, count: int) -> float:
    """Seconds until so many more pods run."""
    there, began = len(pods.running_at), time.monotonic()
    session = session_object()
    await at_once([world.api.create(SESSIONS, site.namespace, session) for _ in range(count)])
    await pods.until(there + count, 300)
    return time.monotonic() - began


def _end_delays(site: Site, ended: set[str]) -> list[float]:
    """From the pod's end to the operator's word of it, in whole seconds as Kubernetes writes them."""
    delays = []
    for session in site.items("botsessions"):
        if session["metadata"]["uid"] in ended:
            conditions = {c["type"]: c for c in session["status"]["conditions"]}
            told = datetime.fromisoformat(conditions["Finished"]["lastTransitionTime"])
            delays.append((told - datetime.fromisoformat(session["status"]["endedAt"])).total_seconds())
    return delays
