"""Bounds on what requests may take up. aiohttp's own: client_max_size."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from pipecat_gateway.keys.ring import ANONYMOUS
from pipecat_gateway.routes import KEY, Route, route_of
from pipecat_gateway.wire.errors import Problem

SHARE: Final = 4
"""One API key has a quarter of all at most: no customer keeps out the others."""
UNREADABLE: Final = (HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises, and logs, of a request that is no HTTP; it quotes it."""


class _Open:
    """How many requests are open; those to bots' own routes apart."""

    def __init__(self, most: int, most_proxied: int) -> None:
        self._most = {False: most, True: most_proxied}
        self._now: Counter[tuple[str, bool]] = Counter()

    @contextmanager
    def counted(self, whose: str, route: Route | None, refusal: Callable[[int], Problem]) -> Iterator[None]:
        """As long as this one is. Raises what ``refusal`` makes of the bound when that is reached."""
        proxied = bool(route and route.proxied)
        mine, bound = (whose, proxied), self._most[proxied]
        if self._now[mine] >= bound:
            raise refusal(bound)
        self._now[mine] += 1
        try:
            yield
        finally:
            self._now[mine] -= 1
            if not self._now[mine]:
                del self._now[mine]


def bounded(most: int, most_proxied: int) -> Middleware:
    """The middleware that has so many requests open at most; health and metrics are asked besides."""
    now_open = _Open(most, most_proxied)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        if route and route.quiet:
            return await handler(request)
        with now_open.counted("", route, _overloaded):
            return await handler(request)

    return middleware


def shared(most: int, most_proxied: int) -> Middleware:
    """The middleware that leaves no API key more than its share of what may be open."""
    now_open = _Open(max(1, most // SHARE), max(1, most_proxied // SHARE))

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        key = request.get(KEY)
        if key is None or key is ANONYMOUS:
            return await handler(request)
        with now_open.counted(key.id, route_of(request), _too_many_open):
            return await handler(request)

    return middleware


def _overloaded(bound: int) -> Problem:
    return Problem(503, "overloaded", f"{bound} requests are open; try again.", {"Retry-After": "1"})


def _too_many_open(bound: int) -> Problem:
    return Problem(429, "too_many_open", f"{bound} requests of this API key are open.", {"Retry-After": "1"})


async def body(request: web.Request, timeout_s: float) -> bytes:
    """All of the request's body, of which the request itself keeps nothing, as its read() does.

    Raises:
        Problem: it took too long to arrive (as does, to aiohttp, a chunk that is none), or isn't encoded as it says.
        HTTPRequestEntityTooLarge: it is longer than the app's client_max_size.
    """
    read, most = bytearray(), request.client_max_size
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_any():
                read += part
                if len(read) > most:
                    raise web.HTTPRequestEntityTooLarge(most)
    except TimeoutError as error:
        raise Problem(408, "request_timeout", f"The request did not arrive within {timeout_s:g} s.") from error
    except web.RequestPayloadError as error:
        raise Problem(400, "bad_encoding", "The request's body is not encoded as its headers say.") from error
    return bytes(read)


class NothingOfTheRequest(logging.Filter):
    """Keeps out of the log what aiohttp quotes of a request that it can't read: the line may hold an API key."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; none is left out."""
        if record.exc_info and isinstance(record.exc_info[1], UNREADABLE):
            record.msg, record.args, record.exc_info = (
                "A request was refused: it is no HTTP that can be read.",
                (),
                None,
            )
        return True


def connection_logger() -> logging.Logger:
    """aiohttp's own, with that filter."""
    # It warns of subprotocols that a bot doesn't know, and browsers have no other place for a token.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    made = logging.getLogger("aiohttp.server")
    if not any(isinstance(known, NothingOfTheRequest) for known in made.filters):
        made.addFilter(NothingOfTheRequest())
    return made
