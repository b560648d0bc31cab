"""Who calls, and whether it may: every request but those for health and documentation has an API key."""

import math
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipecat_gateway.keys.rates import Bucket, take
from pipecat_gateway.keys.ring import Key
from pipecat_gateway.routes import KEY, Access, route_of
from pipecat_gateway.wire.errors import Problem, unknown_bot

Find = Callable[[str], Key | None]
"""From a token to its key."""
CLOUD: Final = "/v1/"
"""What the paths of Pipecat Cloud begin with."""


def access(find: Find, default_bot: str, now: Callable[[], float] = time.monotonic) -> Middleware:
    """The middleware that puts the key of a request into it, or refuses.

    ``default_bot``: the Bot of starts that name none. ``now``: seconds.
    """
    buckets: dict[str, Bucket] = {}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        if route and route.access is Access.OPEN:
            return await handler(request)
        key = find(bearer(request.headers.get("Authorization", "")))
        if key is None:
            # Its CLI asks for more than is served here, and knows this refusal by the code alone.
            raise unauthorized("401" if route is None and request.path.startswith(CLOUD) else "unauthorized")
        request[KEY] = key
        if route is not None:
            if key.kind == "public" and route.access is Access.PRIVATE:
                raise Problem(403, "private_key_required", "A public API key may only start; use a private one.")
            bot = request.match_info.get("bot") or (default_bot if route.starts else None)
            if bot is not None and not key.may_use(bot):
                raise unknown_bot(bot)
        if route is not None and route.starts and key.rate is not None:
            buckets[key.id], wait_s = take(buckets.get(key.id), key.rate, now())
            if wait_s:
                raise too_fast(key.rate, wait_s)
        return await handler(request)

    return middleware


def bearer(header: str) -> str:
    """The token in an Authorization header, or nothing, which is no key's token."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def unauthorized(code: str) -> Problem:
    """The same for a key that is missing, malformed and unknown."""
    said = "An API key is needed: Authorization: Bearer YOUR-KEY."
    return Problem(401, code, said, {"WWW-Authenticate": "Bearer"})


def too_fast(rate: float, wait_s: float) -> Problem:
    """For a start that came before its time."""
    said = f"This API key may start {rate:g} sessions a second."
    return Problem(429, "rate_limited", said, {"Retry-After": str(math.ceil(wait_s))})
