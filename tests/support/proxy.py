"""Between an operator and what it calls: every call is counted, and a rule says what becomes of it."""

import asyncio
import contextlib
import itertools
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

import aiohttp
import kopf
from aiohttp import web

from pipecat_operator import names
from pipecat_operator.connections import Connector
from pipecat_operator.kube import ssl_context

_UID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_HOP_BY_HOP: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding"})


class Side(StrEnum):
    """Who is called."""

    KUBERNETES = "kubernetes"
    DAILY = "daily"


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``number`` counts the caller's calls on all sides, from 1."""

    number: int
    side: Side
    method: str
    path: str
    watch: bool
    cached: bool
    """A read that the API server's cache may answer."""
    at: datetime

    @property
    def write(self) -> bool:
        """It changes something."""
        return self.method != "GET"

    def label(self, *own: str) -> str:
        """What the call is for, without the names (``own`` among them) that differ from run to run."""
        path = _UID.sub("UID", self.path)
        for name in own:
            path = path.replace(name, "OWN")
        path = re.sub(r"/(pods|rooms)/[^/]+", r"/\1/NAME", path)
        return f"{'WATCH' if self.watch else self.method} {self.side}{path}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a call instead of an answer.

    ``carried_out``: it is passed on first, and the answer is lost. ``status`` is answered in its place, with ``text``
    or a refusal; None: the connection is cut. ``held``: nothing happens until it is set. ``then``: before the answer.
    """

    carried_out: bool = False
    status: int | None = None
    text: str | None = None
    retry_after: int | None = None
    held: asyncio.Event | None = None
    then: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """The call is passed on after a while, or after it was let go."""

    delay_s: float = 0.0
    until: asyncio.Event | None = None
    """Between the call's being carried out and its answer."""


Rule = Callable[[Call], Fault | Late | None]
"""None: the call passes."""


def passing(_: Call) -> None:
    """The rule of fair weather."""


class Ledger:
    """All calls of one caller, to whichever side, and the rule for them."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rule: Rule = passing
        self._numbers = itertools.count(1)

    def asked(self, method: str, path: str, watch: bool = False) -> bool:
        """Whether there was such a call; ``path``: part of its path."""
        return any(call.method == method and path in call.path and call.watch == watch for call in self.calls)

    def note(self, side: Side, request: web.Request) -> Call:
        """Count the call."""
        call = Call(
            number=next(self._numbers),
            side=side,
            method=request.method,
            path=request.path,
            watch="watch" in request.query,
            cached=request.query.get("resourceVersion") == "0",
            at=datetime.now(UTC),
        )
        self.calls.append(call)
        return call


@dataclass(eq=False, slots=True)
class _Watch:
    request: web.Request
    silent: bool = False


class Proxy:
    """A plain-HTTP way to one server, on loopback."""

    def __init__(self, side: Side, upstream: str, http: aiohttp.ClientSession, ledger: Ledger) -> None:
        """``http`` holds the credentials for ``upstream``, if the caller has none of its own."""
        self._side = side
        self._upstream = upstream.rstrip("/")
        self._http = http
        self._ledger = ledger
        self._watches: set[_Watch] = set()
        self._runner: web.AppRunner | None = None
        self._listener: socket.socket | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=8 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        self._listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(self._runner, self._listener).start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_watches()
        if self._runner and self._listener:
            # asyncio forgets, unclosed, what it accepted in the very turn in which its server is closed.
            asyncio.get_running_loop().remove_reader(self._listener)
            await asyncio.sleep(0)
            await self._runner.cleanup()

    def cut_watches(self) -> None:
        """Break every open watch."""
        for watch in tuple(self._watches):
            _cut(watch.request)

    def silence_watches(self) -> None:
        """No open watch tells anything more; its connection stays open."""
        for watch in self._watches:
            watch.silent = True

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = self._ledger.note(self._side, request)
        body = await request.read()
        fate = self._ledger.rule(call)
        if isinstance(fate, Late):
            await asyncio.sleep(fate.delay_s)
        elif fate and fate.held:
            await fate.held.wait()
        if isinstance(fate, Fault) and not fate.carried_out:
            return self._fail(request, fate)
        passed = {"data": body or None, "headers": self._headers(request), "allow_redirects": False}
        url = self._upstream + request.raw_path
        timeout = aiohttp.ClientTimeout(total=None if call.watch else 60)
        try:
            async with self._http.request(request.method, url, timeout=timeout, **passed) as answer:
                if isinstance(fate, Fault):
                    # A watch is carried out when it is open.
                    if not call.watch:
                        await answer.read()
                    return self._fail(request, fate)
                if isinstance(fate, Late) and fate.until:
                    await answer.read()
                    await fate.until.wait()
                return await self._relay(request, answer, call)
        except aiohttp.ClientError:
            _cut(request)
            return web.Response(status=502)

    async def _relay(self, request: web.Request, answer: aiohttp.ClientResponse, call: Call) -> web.StreamResponse:
        headers = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        if not call.watch:
            return web.Response(status=answer.status, headers=headers, body=await answer.read())
        told = web.StreamResponse(status=answer.status, headers=headers)
        watch = _Watch(request)
        self._watches.add(watch)
        try:
            await told.prepare(request)
            async for chunk in answer.content.iter_any():
                if not watch.silent:
                    await told.write(chunk)
        except ConnectionError:
            pass
        finally:
            self._watches.discard(watch)
        return told

    def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.then:
            fault.then()
        if fault.status is None:
            _cut(request)
            return web.Response()
        if fault.text is not None:
            return web.Response(status=fault.status, text=fault.text)
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        said = _refusal(self._side, fault.status)
        return web.json_response(said, status=fault.status, headers=headers)

    def _headers(self, request: web.Request) -> dict[str, str]:
        kept = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        if "Authorization" in self._http.headers:
            kept.pop("Authorization", None)
        return kept


def _refusal(side: Side, status: int) -> dict[str, Any]:
    """As each side words it."""
    if side is Side.DAILY:
        return {"error": "rate-limit-error" if status == 429 else "server-error", "info": "a fault that was asked for"}
    reason = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason.get(status, "")}
    return said | {"message": "a fault that was asked for"}


def _cut(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()


@contextlib.asynccontextmanager
async def kubernetes_proxy(info: kopf.ConnectionInfo, ledger: Ledger) -> AsyncIterator[Proxy]:
    """To the API server of those credentials, as their user."""
    connector = Connector(ssl=ssl_context(info), limit=0)
    async with (
        aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), auto_decompress=False) as http,
        Proxy(Side.KUBERNETES, info.server, http, ledger) as proxy,
    ):
        yield proxy


def kubeconfig(server: str, namespace: str) -> str:
    """To go through the proxy at that URL; the proxy has the credentials."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": names.MANAGED_BY,
            "contexts": [
                {"name": names.MANAGED_BY, "context": {"cluster": "it", "user": "it", "namespace": namespace}}
            ],
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": "none"}}],
        }
    )
