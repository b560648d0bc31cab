"""Which web pages may call: none, unless set."""

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from pipecat_gateway.wire.errors import Problem

METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key"
"""What the clients send."""
ANSWER_HEADERS: Final = "Retry-After"
"""What a page may read besides those that it always may."""


def is_preflight(request: web.Request) -> bool:
    """Whether a browser asks beforehand. It brings no API key then."""
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers


def preflight(request: web.Request, origins: Collection[str]) -> web.Response:
    """The answer to one; its headers are those of any answer.

    Raises:
        Problem: not from that origin.
    """
    if not _allowed(request.headers.get("Origin"), origins):
        raise _refused()
    return web.Response(status=204)


def closed(origins: Collection[str], loopback: bool) -> Middleware:
    """The middleware that refuses web pages that may not call: what a browser sends without asking beforehand, too.

    For where there are no API keys: no page can send one without asking. ``loopback``: only this machine can call, and
    it must be by a name of this machine; a page's own may be led to it (DNS rebinding).
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if loopback and not _of_this_machine(request.host):
            raise Problem(403, "host_not_allowed", "Without API keys the gateway is called as localhost or 127.0.0.1.")
        origin = request.headers.get("Origin")
        # No page can read another origin's answer, but it can talk over a WebSocket.
        reads = request.method in ("GET", "HEAD") and "Upgrade" not in request.headers
        if origin is None or reads or _allowed(origin, origins) or origin.partition("://")[2] == request.host:
            return await handler(request)
        raise _refused()

    return middleware


def headers(origins: Collection[str]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """What every answer gets as it is prepared, streams and errors too: for ``app.on_response_prepare``."""

    async def add(request: web.Request, answer: web.StreamResponse) -> None:
        if origins and "*" not in origins:
            answer.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin and _allowed(origin, origins):
            answer.headers["Access-Control-Allow-Origin"] = "*" if "*" in origins else origin
            answer.headers["Access-Control-Allow-Methods"] = METHODS
            answer.headers["Access-Control-Allow-Headers"] = REQUEST_HEADERS
            answer.headers["Access-Control-Expose-Headers"] = ANSWER_HEADERS

    return add


def _of_this_machine(host: str) -> bool:
    try:
        name = URL.build(authority=host).host or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refused() -> Problem:
    return Problem(403, "origin_not_allowed", "Web pages of this origin may not call the gateway.")


def _allowed(origin: str | None, origins: Collection[str]) -> bool:
    return "*" in origins or origin in origins
