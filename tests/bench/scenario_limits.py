"""Daily's real limits: the operator's defaults against a stand-in that counts as Daily does."""

import asyncio
from datetime import datetime

from bench.load import Pods, at_once, hang_up, session_object
from bench.report import Row
from bench.usage import percentile
from bench.world import Site, World
from pipecat_operator.kube import SESSIONS

PACE = 20
"""Rooms a second that Daily allows."""
TIMEOUT_S = 600


async def run(world: World, size: float) -> list[Row]:
    """300 at once; then these end while 300 more are made."""
    count = max(40, int(300 * size))
    async with world.site(limits=True) as site, Pods.of(world.api, site.namespace) as pods:
        site.begin()
        alone = await _pace(world, site, pods, count)
        leaving = dict(pods.names)
        hung_up = asyncio.create_task(at_once([hang_up(world.api, site.namespace, n) for n in leaving.values()]))
        beside = await _pace(world, site, pods, count)
        await hung_up
        await site.until_metric("pipecat_sessions_ended_total", count)
        waiting = site.metric("pipecat_rooms_to_delete")
        slowest_end = percentile(_end_delays(site, set(leaving)), 99)
        calls = site.daily_calls()
    refused = sum(n for call, n in calls.items() if call.endswith(" 429"))
    what = f"{count} at once, rooms made a second"
    return [
        Row("limits", f"{what}, floor: Daily's limit", alone, "/s", PACE, ">= 0.9 x", alone >= 0.9 * PACE),
        Row("limits", f"{what}, others ending, floor: none", beside, "/s", alone, ">= 0.95 x", beside >= 0.95 * alone),
        Row("limits", "calls that Daily answered 429", refused, "", None, "0", refused == 0),
        Row("limits", "rooms waiting for their deletion when all had ended", waiting, ""),
        Row("limits", "pod ended to session ended, p99", slowest_end, "s", None, "<= 2 s", slowest_end <= 2),
    ]


async def _pace(world: World, site: Site, pods: Pods, count: int) -> float:
    """Rooms a second, from the first of so many to the last, by Daily's clock."""
    there, before = len(pods.running_at), {room["name"] for room in site.daily_state()["rooms"]}
    session = session_object()
    await at_once([world.api.create(SESSIONS, site.namespace, session) for _ in range(count)])
    await pods.until(there + count, TIMEOUT_S)
    rooms = site.daily_state()["rooms"]
    made = [datetime.fromisoformat(room["created_at"]) for room in rooms if room["name"] not in before]
    return (count - 1) / (max(made) - min(made)).total_seconds()


def _end_delays(site: Site, ended: set[str]) -> list[float]:
    """From the pod's end to the operator's word of it, in whole seconds as Kubernetes writes them."""
    delays = []
    for session in site.items("botsessions"):
        if session["metadata"]["uid"] in ended:
            conditions = {c["type"]: c for c in session["status"]["conditions"]}
            told = datetime.fromisoformat(conditions["Finished"]["lastTransitionTime"])
            delays.append((told - datetime.fromisoformat(session["status"]["endedAt"])).total_seconds())
    return delays
