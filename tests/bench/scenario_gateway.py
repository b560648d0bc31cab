"""The gateway: how long from a start to its answer, beside a client that makes and follows the BotSession itself."""

import asyncio
import base64
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from bench.load import BOT, CLEAN_S, POLL_S, remove_all, session_object, steadily, until_gone
from bench.report import Row, told
from bench.usage import cpu_s, percentile, rss_mb
from bench.world import PLENTY, Site, World
from pipecat_gateway.middleware.limits import SHARE
from pipecat_local.processes import until
from pipecat_operator import names
from pipecat_operator.kube import SECRETS, SESSIONS, Kube, Object
from pipecat_operator.watch import Reflector
from support.gateway import Gateway, Keys, bearer, gateway_account

SECONDS = {10: 40, 50: 10, 100: 10}
"""Of starts each time, by rate: enough of them for a p99."""
ROUNDS = 2
"""Of each way alone, and of both at once."""
BESIDE = 0.25
"""Starts by the other client for each through the gateway, while both are measured at once: a machine that is full may
be twice as slow a minute later.
"""
WAITS = 2
"""How often so many wait."""
OPEN = 1000
SETTLE_S = 3
PATH = f"/v1/public/{BOT}/start"
KEY = "bench"
MANY = 1_000_000
"""A bound that refuses nobody: what it costs to keep to one is measured, too."""
PATIENCE = aiohttp.ClientTimeout(total=CLEAN_S)
"""What is too slow is to be seen in the figures."""

Start = Callable[[], Awaitable[str]]
"""Starts one session; answers the token that lets its user in."""


@dataclass(slots=True)
class Figures:
    """Of one way at one rate: ms from each start to its answer; of each round answers a second, CPU ms a start."""

    took: list[float] = field(default_factory=list)
    pace: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Own:
    """A client that needs no gateway: it makes the BotSession, waits by one shared watch, reads the Secret plainly."""

    def __init__(self, api: Kube, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._ready: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.reflector = Reflector(api, SESSIONS, [namespace], self._told, lambda *_: None)

    async def start(self) -> str:
        """One session."""
        made = await self._api.create(SESSIONS, self._namespace, counted_session())
        uid = made["metadata"]["uid"]
        await self._ready[uid].wait()
        secret = await self._api.get(SECRETS, self._namespace, names.secret_name(uid))
        return base64.b64decode(secret["data"][names.SECRET_USER_TOKEN]).decode()

    def _told(self, _: str, session: Object) -> None:
        if session.get("status", {}).get("phase") in ("Starting", "Running"):
            self._ready[session["metadata"]["uid"]].set()


@dataclass(frozen=True, slots=True)
class Way:
    """How sessions are started, and the process that is paid for it, if it is another than this."""

    start: Start
    pid: int | None = None


Ways = Callable[[Site], AbstractAsyncContextManager[Way]]


@asynccontextmanager
async def by_itself(site: Site) -> AsyncIterator[Way]:
    """The floor."""
    # With the gateway's rights: the admin's calls pass authorization and the API server's queues unasked.
    account = await asyncio.to_thread(gateway_account, site)
    async with Kube(login=account.login) as api:
        own = Own(api, site.namespace)
        following = asyncio.create_task(own.reflector.run())
        try:
            await own.reflector.synced.wait()
            yield Way(own.start)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def by_gateway(site: Site) -> AsyncIterator[Way]:
    """One process of it."""
    gateway, headers = await asyncio.to_thread(with_key, site, MANY)
    request = start_request()

    async def start() -> str:
        status, answer = await gateway.call("POST", PATH, request, headers=headers, timeout=PATIENCE)
        if status != 200:
            raise RuntimeError(f"a start was answered {status} {answer['code']}: {answer['error']}")
        return str(answer["dailyToken"])

    try:
        yield Way(start, gateway.child.pid)
    finally:
        await gateway.close()


def with_key(site: Site, open_requests: int, **settings: str) -> tuple[Gateway, dict[str, str]]:
    """A gateway, and the header of an API key that may have so many requests open; it has a rate and a quota."""
    keys = Keys(site.folder)
    token = keys.add(KEY, "public", bots=(BOT,), rate=MANY, maxSessions=MANY)
    settings["PIPECAT_GATEWAY_KEYS"] = str(keys.folder)
    settings["PIPECAT_GATEWAY_OPEN_REQUESTS"] = str(SHARE * open_requests)
    return Gateway(site, site.folder / "gateway.log", **settings), bearer(token)


def counted_session() -> Object:
    """The BotSession that a start with that key makes, so that the operator has as much to do for either client."""
    session = session_object()
    session["spec"]["quota"] = {"group": KEY, "maxSessions": MANY}
    return session


def start_request() -> str:
    """What makes the same BotSession as the other client's."""
    spec = session_object()["spec"]
    user = {"user_name": spec["user"]["name"], "user_id": spec["user"]["id"]}
    return json.dumps({"createDailyRoom": True, "body": spec["body"], "dailyMeetingTokenProperties": user})


async def run(world: World, size: float) -> list[Row]:
    """10, 50 and 100 a second, each way alone and both at once, twice each; then 1,000 that wait, twice."""
    rows: list[Row] = []
    for rate, seconds in SECONDS.items():
        rows += told(await at_rate(world, rate, seconds * size))
    rows += told(await waiting_ones(world, max(20, int(OPEN * size))))
    return rows


async def at_rate(world: World, rate: float, seconds: float) -> list[Row]:
    """So many starts a second through the gateway, for so long each time."""
    alone, at_once = ({way: Figures() for way in (by_itself, by_gateway)} for _ in range(2))
    turns = (
        ({by_itself: rate}, alone),
        ({by_gateway: rate}, alone),
        ({by_gateway: rate, by_itself: rate * BESIDE}, at_once),
    )
    for number in range(ROUNDS):
        # There and back, so that a drift of the machine's meets all alike.
        for rates, figures in turns if number % 2 == 0 else reversed(turns):
            await _once(world, rates, seconds, figures)
    rows = []
    for how, figures in (("at the same time", at_once), ("in turn", alone)):
        for percent in (50, 99):
            took, least = (percentile(figures[way].took, percent) for way in (by_gateway, by_itself))
            what = f"{rate}/s, start to answer, p{percent}, floor: watched oneself, {how}"
            rows.append(Row("gateway", what, took, "ms", least, "<= 1.2 x", took <= 1.2 * least))
    pace, least = (sum(alone[way].pace) / ROUNDS for way in (by_gateway, by_itself))
    rows.append(Row("gateway", f"{rate}/s, answered a second, floor: watched oneself, in turn", pace, "/s", least))
    rows.append(Row("gateway", f"{rate}/s, CPU of the gateway per start", sum(alone[by_gateway].cpu) / ROUNDS, "ms"))
    return rows


async def _once(world: World, rates: Mapping[Ways, float], seconds: float, figures: Mapping[Ways, Figures]) -> None:
    """So many starts a second of each way, all at once; adds to the figures."""
    async with world.site() as site, AsyncExitStack() as stack:
        site.begin(**PLENTY)
        ways = {way: await stack.enter_async_context(way(site)) for way in rates}

        async def load(lasting_s: float) -> list[list[tuple[float, float]]]:
            """When each start began and was answered, by way."""
            return await asyncio.gather(
                *(
                    steadily([_timed(ways[way].start) for _ in range(max(1, int(rate * lasting_s)))], rate)
                    for way, rate in rates.items()
                )
            )

        # The first ones make connections.
        started = sum(map(len, await load(min(1, seconds))))
        await site.until_metric('pipecat_sessions{phase="Running"}', started)
        before = {way: cpu_s(each.pid) for way, each in ways.items() if each.pid}
        times = dict(zip(rates, await load(seconds), strict=True))
        # What the watch tells of them later is theirs, too.
        await site.until_metric('pipecat_sessions{phase="Running"}', started + sum(map(len, times.values())))
        for way, begun in before.items():
            figures[way].cpu.append((cpu_s(ways[way].pid or 0) - begun) * 1000 / len(times[way]))
    for way, of_way in times.items():
        figures[way].took += [(end - at) * 1000 for at, end in of_way]
        figures[way].pace.append(len(of_way) / (max(end for _, end in of_way) - of_way[0][0]))


async def _timed(start: Start) -> tuple[float, float]:
    """When it began and when it was answered."""
    at = time.monotonic()
    await start()
    return at, time.monotonic()


async def waiting_ones(world: World, count: int) -> list[Row]:
    """Without an operator no bot ever joins."""
    async with world.site() as site:
        settings = {"PIPECAT_GATEWAY_START_TIMEOUT_SECONDS": "3600"}
        gateway, headers = await asyncio.to_thread(with_key, site, count, **settings)
        pid = gateway.child.pid
        try:
            none = rss_mb(pid)
            waiting, gone = [], []
            for _ in range(WAITS):
                asking = await _asking(world, site, gateway, headers, count)
                waiting.append(rss_mb(pid))
                await _left(world, site, asking)
                gone.append(rss_mb(pid))
        finally:
            await gateway.close()
    kept = gone[-1] - gone[0]
    return [
        Row("gateway", "RSS before any request", none, "MB"),
        Row("gateway", f"RSS with {count} that wait for their bots, floor: before", waiting[-1], "MB", none),
        Row("gateway", "  per request that waits", (waiting[0] - none) * 1024 / count, "kB"),
        Row("gateway", "RSS with none any more, floor: before", gone[-1], "MB", none),
        Row("gateway", "RSS kept more the second time", kept, "MB"),
    ]


async def _asking(
    world: World, site: Site, gateway: Gateway, headers: dict[str, str], count: int
) -> list[asyncio.Task[object]]:
    """So many, once all wait."""
    request = start_request()
    path, how = f"{PATH}?wait=joined", {"headers": headers, "timeout": PATIENCE}
    calls = [gateway.call("POST", path, request, **how) for _ in range(count)]
    asking: list[asyncio.Task[object]] = [asyncio.create_task(call) for call in calls]
    await _until(world, site, f"{count} to wait", count, stopped=False)
    await asyncio.sleep(SETTLE_S)
    return asking


async def _left(world: World, site: Site, asking: list[asyncio.Task[object]]) -> None:
    """Their callers go away, and nothing is left of their sessions."""
    for task in asking:
        task.cancel()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    if answered := [end for end in ended if not isinstance(end, asyncio.CancelledError)]:
        raise RuntimeError(f"{len(answered)} did not wait: {answered[0]}")
    await _until(world, site, "them to be stopped", len(asking), stopped=True)
    await remove_all(world.api, site.namespace, SESSIONS)
    await until_gone(world.api, site.namespace, SESSIONS)
    await asyncio.sleep(SETTLE_S)


async def _until(world: World, site: Site, what: str, count: int, stopped: bool) -> None:
    """Until there are so many sessions, told to stop or not."""

    async def there() -> bool:
        items, _ = await world.api.list(SESSIONS, site.namespace)
        return sum(bool(item["spec"].get("stop")) == stopped for item in items) == count

    await until(what, there, CLEAN_S, POLL_S)
