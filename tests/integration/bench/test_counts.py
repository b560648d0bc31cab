"""What the bench measures, as counts: they are the same on any machine."""

import asyncio
import gc
import os
import signal
from collections import Counter
from collections.abc import Sized
from typing import Any

import jwt
import pytest

from bench.load import Pods, at_once, hang_up, session_object, until_gone
from bench.scenario_gateway import PATH, at_rate, by_gateway, by_itself, start_request, waiting_ones
from bench.world import PLENTY, Site, World
from pipecat_local.controlplane import free_ports
from pipecat_local.processes import until
from pipecat_operator.cache import Cache
from pipecat_operator.kube import JOBS, PODS, SECRETS, SESSIONS
from pipecat_operator.loop import KeyedQueue
from pipecat_operator.main import run
from pipecat_operator.rooms import RoomDeleter
from pipecat_operator.settings import load
from pipecat_operator.turns import AskingSelector
from support.gateway import gateway_account, gateway_behind
from support.operated import DAILY_KEY, get
from support.proxy import Ledger, kubernetes_proxy
from support.words import WRITES

WAIT_S = 60
KEEPERS = (Cache, KeyedQueue, RoomDeleter)


async def make(world: World, site: Site, count: int, ttl_s: int = 600) -> None:
    """So many sessions at once."""
    session = session_object(ttl_s)
    await at_once([world.api.create(SESSIONS, site.namespace, session) for _ in range(count)])


async def end(world: World, site: Site, pods: Pods) -> None:
    """Every call that is running."""
    await at_once([hang_up(world.api, site.namespace, name) for name in pods.names.values()])


async def test_five_writes_and_two_calls_to_daily_each(world: World):
    count = 50
    async with world.site() as site, Pods.of(world.api, site.namespace) as pods:
        site.begin(**PLENTY)
        await make(world, site, count)
        await site.until_metric('pipecat_sessions{phase="Running"}', count, WAIT_S)
        await end(world, site, pods)
        await site.until_metric("pipecat_sessions_ended_total", count, WAIT_S)
        await until("the rooms to go", lambda: none(site.rooms()), WAIT_S)
        writes, calls = site.writes(), site.daily_calls()
    of_sessions = {kind: number / count for kind, number in writes.items() if kind in WRITES}
    assert of_sessions == WRITES
    assert writes.keys() - WRITES.keys() == {
        *("create botsessions", "patch pods"),  # the load's own
        *("create leases", "update leases", "patch bots/status"),
    }
    assert calls == {
        "GET /v1/ 200": 1,
        "GET /v1/rooms 200": 1,
        "POST /v1/rooms 200": count,
        "DELETE /v1/rooms/{name} 200": count,
    }


async def none(things: Sized) -> bool:
    """Whether there are none."""
    return not things


async def test_within_dailys_limits_none_is_refused_and_nothing_waits_for_a_deletion(world: World):
    count = 40
    async with world.site(limits=True) as site, Pods.of(world.api, site.namespace) as pods:
        # So few that they are not done before the test is.
        site.begin(PIPECAT_OPERATOR_DAILY_DELETES_PER_SECOND="0.1")
        await make(world, site, count)
        await site.until_metric('pipecat_sessions{phase="Running"}', count, WAIT_S)
        await end(world, site, pods)
        await site.until_metric("pipecat_sessions_ended_total", count, WAIT_S)
        assert site.metric("pipecat_rooms_to_delete") > 0
        await make(world, site, count)
        await site.until_metric('pipecat_sessions{phase="Running"}', count, WAIT_S)
        assert site.metric("pipecat_rooms_to_delete") > 0, "these starts did not wait for those deletions"
        calls = site.daily_calls()
    assert [call for call in calls if call.endswith(" 429")] == []
    assert calls["POST /v1/rooms 200"] == 2 * count


async def test_no_end_waits_for_those_who_wait_for_daily(world: World):
    count, workers_of_old = 90, 50
    async with world.site() as site, Pods.of(world.api, site.namespace) as pods:
        site.begin(PIPECAT_OPERATOR_DAILY_REQUESTS_PER_SECOND="1")
        await make(world, site, 1)
        await site.until_metric('pipecat_sessions{phase="Running"}', 1, WAIT_S)
        first = dict(pods.names)
        await make(world, site, count)
        await at_once([hang_up(world.api, site.namespace, name) for name in first.values()])
        await site.until_metric("pipecat_sessions_ended_total", 1, WAIT_S)
        assert site.daily_calls()["POST /v1/rooms 200"] < count - workers_of_old


async def test_nothing_is_kept_of_what_has_gone(world: World, monkeypatch: pytest.MonkeyPatch):
    """Neither an entry nor a task; so the operator runs in this process."""
    count = 20
    # Tests that came before may have left some.
    others = objects(KEEPERS)
    async with world.site() as site:
        (port,) = free_ports(1)
        site.metrics_url = f"http://127.0.0.1:{port}"
        settings = {
            **PLENTY,
            "KUBECONFIG": str(site.install()),
            "DAILY_API_KEY": DAILY_KEY,
            "DAILY_API_URL": site.daily.ready["api_url"],
            "PIPECAT_OPERATOR_NAMESPACE": site.namespace,
            "PIPECAT_OPERATOR_WATCH_NAMESPACES": site.namespace,
            "PIPECAT_OPERATOR_HTTP_PORT": str(port),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        running = asyncio.create_task(run(load(), AskingSelector()))
        await until("the operator", lambda: asyncio.to_thread(ready, site), WAIT_S)
        await lives(world, site, 1)
        tasks = len(asyncio.all_tasks())
        await lives(world, site, count)
        await until("the tasks to end", lambda: at_most(tasks), WAIT_S)
        kept = {kind.__name__: filled(kind, others) for kind in KEEPERS}
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
    # The heap forgets a wish that nobody has any more when its time comes. What was listed is known by namespace.
    assert kept == {"Cache": {"_bots", "_listed"}, "KeyedQueue": {"_heap"}, "RoomDeleter": set()}


async def test_restarts_resyncs_and_sweeps_write_nothing(world: World):
    count = 150  # more than one page of Daily's rooms
    async with world.site() as site:
        site.begin(**PLENTY)
        await make(world, site, count)
        await site.until_metric('pipecat_sessions{phase="Running"}', count, WAIT_S)
        site.operator.stop()
        writes, calls = site.writes(), site.daily_calls()
        site.begin(**PLENTY, PIPECAT_OPERATOR_RESYNC_SECONDS="1", PIPECAT_OPERATOR_SWEEP_SECONDS="1")
        await site.until_metric("pipecat_daily_request_seconds_count", 6, WAIT_S)
        since = site.writes() - writes
        assert since.keys() <= {"update leases", "patch bots/status"}
        assert since["patch bots/status"] <= 1
        assert (site.daily_calls() - calls).keys() == {"GET /v1/rooms 200"}
        assert site.metric('pipecat_sessions{phase="Running"}') == count
        assert len(site.rooms()) == count


async def test_three_calls_a_start_through_the_gateway_and_one_watch_for_all(world: World):
    count, ledger = 30, Ledger()
    async with (
        world.site() as site,
        kubernetes_proxy(gateway_account(site).login(), ledger) as proxy,
    ):
        site.begin(**PLENTY)
        gateway = await gateway_behind(proxy, site, site.folder)
        answers = await at_once([gateway.call("POST", PATH, start_request()) for _ in range(count)])
        await gateway.close()
        calls = Counter((call.label(site.namespace), call.cached) for call in ledger.calls)
    assert [status for status, _ in answers] == [200] * count
    sessions = "kubernetes/apis/pipecat.dev/v1alpha1/namespaces/OWN/botsessions"
    secret = "GET kubernetes/api/v1/namespaces/OWN/secrets/bs-UID"
    # Those that the API server's cache had not heard of yet are asked for once more.
    assert calls.pop((secret, False), 0) <= count
    assert calls == {
        (f"GET {sessions}", False): 1,
        (f"WATCH {sessions}", False): 1,
        ("GET kubernetes/apis/pipecat.dev/v1alpha1/namespaces/OWN/bots/bot", False): count,
        (f"POST {sessions}", False): count,
        (secret, True): count,
    }


async def test_both_ways_of_the_gateways_measurement_start_the_same(world: World):
    """Else the one would not be the other's floor."""
    async with world.site() as site:
        site.begin(**PLENTY)
        specs = []
        for way in (by_itself, by_gateway):
            async with way(site) as starting:
                token = jwt.decode(await starting.start(), options={"verify_signature": False})
            await site.until_metric('pipecat_sessions{phase="Running"}', len(specs) + 1, WAIT_S)
            (spec,) = [
                {**session["spec"], "session": None}
                for session in site.items("botsessions")
                if token["r"].endswith(session["metadata"]["uid"])
            ]
            specs.append(spec)
    assert specs[0] == specs[1]


async def test_the_gateways_measurement_runs_at_a_small_size(world: World):
    """Every start is answered, or it would have raised; who waits is not answered before the callers leave."""
    rows = [*await at_rate(world, rate=10, seconds=1), *await waiting_ones(world, 10)]
    assert [row.unit for row in rows] == [*["ms"] * 4, "/s", "ms", "MB", "MB", "kB", "MB", "MB"]
    assert all(row.figure > 0 for row in rows[:5])
    assert [row.met is not None for row in rows] == [*[True] * 4, *[False] * 7]


async def lives(world: World, site: Site, count: int) -> None:
    """So many, until nothing is left of them."""
    async with Pods.of(world.api, site.namespace) as pods:
        await make(world, site, count, ttl_s=1)
        await pods.until(count, WAIT_S)
        await end(world, site, pods)
        await until_gone(world.api, site.namespace, SESSIONS, JOBS, PODS, SECRETS)


def ready(site: Site) -> bool:
    """Whether the operator says so."""
    return get(f"{site.metrics_url}/readyz")[0] == 200


async def at_most(tasks: int) -> bool:
    """Whether no more tasks than that are there."""
    return len(asyncio.all_tasks()) <= tasks


def objects(kinds: tuple[type[Any], ...]) -> list[Any]:
    """All there are of these kinds."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


def filled(kind: type[Any], others: list[Any]) -> set[str]:
    """The attributes of the one object of that kind, besides those others, that hold anything."""
    (thing,) = [each for each in objects((kind,)) if not any(each is other for other in others)]
    return {name for name, value in vars(thing).items() if isinstance(value, Sized) and value}
