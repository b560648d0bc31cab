"""The stand-in's HTTP routes: Daily's REST API under /v1, calls under /<room>/join, and a control path for tests."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

from aiohttp import web

from pipecat_local.daily.calls import Calls
from pipecat_local.daily.limits import RateLimit
from pipecat_local.daily.rooms import Domain, JoinRefused, Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ERRORS: Final = {
    400: "invalid-request-error",
    401: "authentication-error",
    403: "forbidden-error",
    404: "not-found",
    429: "rate-limit-error",
}
"""Daily's word for each status; server-error for the others."""


@dataclass(slots=True)
class Fault:
    """What the next ``calls`` calls of ``method`` get instead of an answer.

    ``status`` 0: the connection is dropped. ``after``: the call is carried out first, its answer is lost.
    ``info``: Daily's sentence.
    """

    method: str
    status: int
    calls: int = 1
    after: bool = False
    retry_after: int | None = None
    info: str = "a fault that was asked for"


class Server:
    """One domain's HTTP server."""

    def __init__(self, domain: Domain, calls: Calls, limits: bool = True) -> None:
        self._domain = domain
        self._calls = calls
        self._all = RateLimit([(20, 1.0), (100, 5.0)], time.monotonic) if limits else None
        self._deletes = RateLimit([(2, 1.0), (50, 30.0)], time.monotonic) if limits else None
        self._counts: Counter[str] = Counter()
        self._faults: list[Fault] = []

    def app(self) -> web.Application:
        """All routes."""
        app = web.Application(middlewares=[self._middleware])
        app.add_routes(
            [
                web.get("/v1", self._domain_config),
                web.get("/v1/", self._domain_config),
                web.post("/v1/rooms", self._make_room),
                web.get("/v1/rooms", self._list_rooms),
                web.get("/v1/rooms/{name}", self._get_room),
                web.delete("/v1/rooms/{name}", self._delete_room),
                web.get("/v1/rooms/{name}/presence", self._room_presence),
                web.post("/v1/rooms/{name}/eject", self._eject),
                web.post("/v1/meeting-tokens", self._mint),
                web.get("/v1/meeting-tokens/{token}", self._validate),
                web.get("/v1/presence", self._presence),
                web.get("/_standin/state", self._state),
                web.post("/_standin/faults", self._set_faults),
                web.post("/_standin/domain", self._set_domain),
                web.get("/{room}/join", self._calls.join),
                web.get("/{room}", self._page),
            ]
        )
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/v1"):
            return await handler(request)
        route = request.match_info.route.resource.canonical if request.match_info.route.resource else request.path
        answer = await self._rest(request, handler)
        self._counts[f"{request.method} {route} {answer.status}"] += 1
        answer.headers["Date"] = formatdate(self._domain.clock(), usegmt=True)
        return answer

    async def _rest(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self._domain.api_key}":
            return _refusal(Refused(401, "authentication-error", "the API key is not valid"))
        deletes = request.method == "DELETE" and self._deletes
        if (self._all and not self._all.take()) or (deletes and not deletes.take()):
            return _refusal(Refused(429, "rate-limit-error", "too many requests"))
        fault = next((f for f in self._faults if f.method == request.method and f.calls > 0), None)
        if fault:
            fault.calls -= 1
            if not fault.after:
                return self._fail(request, fault)
        try:
            answer = await handler(request)
        except Refused as refused:
            answer = _refusal(refused)
        except (ValueError, RecursionError):
            answer = _refusal(Refused(400, "invalid-request-error", "the body is not JSON, or too deep"))
        return self._fail(request, fault) if fault else answer

    def _fail(self, request: web.Request, fault: Fault) -> web.Response:
        if fault.status == 0 and request.transport:
            request.transport.abort()
        answer = _refusal(Refused(fault.status or 500, ERRORS.get(fault.status, "server-error"), fault.info))
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = str(fault.retry_after)
        return answer

    async def _domain_config(self, _: web.Request) -> web.Response:
        return web.json_response({"domain_name": self._domain.name, "domain_id": self._domain.id, "config": {}})

    async def _make_room(self, request: web.Request) -> web.Response:
        return web.json_response(self._domain.json(self._domain.make(await _json(request))))

    async def _list_rooms(self, request: web.Request) -> web.Response:
        rooms = self._domain.rooms()
        total = len(rooms)
        if after := request.query.get("starting_after"):
            rooms = rooms[next((i + 1 for i, room in enumerate(rooms) if room.id == after), total) :]
        limit = min(100, int(request.query.get("limit", "100")))
        return web.json_response({"total_count": total, "data": [self._domain.json(room) for room in rooms[:limit]]})

    async def _get_room(self, request: web.Request) -> web.Response:
        room = self._domain.get(request.match_info["name"])
        return web.json_response(self._domain.json(room) if room else {})

    async def _delete_room(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self._domain.delete(name)
        await self._calls.eject(name)
        return web.json_response({"deleted": True, "name": name})

    async def _room_presence(self, request: web.Request) -> web.Response:
        there = self._calls.presence().get(request.match_info["name"], [])
        return web.json_response({"total_count": len(there), "data": there})

    async def _eject(self, request: web.Request) -> web.Response:
        body = await _json(request)
        ejected = [await self._calls.eject(request.match_info["name"], i) for i in body.get("ids", [])]
        return web.json_response({"ejectedIds": [i for i, n in zip(body.get("ids", []), ejected, strict=True) if n]})

    async def _mint(self, request: web.Request) -> web.Response:
        return web.json_response({"token": self._domain.mint((await _json(request)).get("properties") or {})})

    async def _validate(self, request: web.Request) -> web.Response:
        try:
            claims = self._domain.claims(request.match_info["token"])
        except JoinRefused as refused:
            raise Refused(400, "invalid-request-error", str(refused)) from refused
        names = {"r": "room_name", "o": "is_owner", "u": "user_name", "ud": "user_id", "exp": "exp"}
        return web.json_response({long: claims[short] for short, long in names.items() if short in claims})

    async def _presence(self, _: web.Request) -> web.Response:
        return web.json_response(self._calls.presence())

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "rooms": [self._domain.json(room) for room in self._domain.rooms()],
                "rooms_made": len(self._domain.made),
                "made": self._domain.made,
                "presence": self._calls.presence(),
                "calls": dict(self._counts),
            }
        )

    async def _set_faults(self, request: web.Request) -> web.Response:
        self._faults = [Fault(**fault) for fault in await request.json()]
        return web.json_response({})

    async def _set_domain(self, request: web.Request) -> web.Response:
        """``api_key``: the one that is valid from now on; ``ahead_s``: how far Daily's clock is ahead."""
        asked = await request.json()
        self._domain.api_key = asked.get("api_key", self._domain.api_key)
        self._domain.ahead_s = asked.get("ahead_s", self._domain.ahead_s)
        return web.json_response({})

    async def _page(self, request: web.Request) -> web.Response:
        return web.Response(text=f"Room {request.match_info['room']} of the Daily stand-in: join it with the caller.\n")


async def _json(request: web.Request) -> dict[str, Any]:
    body = await request.json() if request.can_read_body else {}
    if not isinstance(body, dict):
        raise Refused(400, "invalid-request-error", "the body is not a JSON object")
    return body


def _refusal(refused: Refused) -> web.Response:
    return web.json_response(refused.body, status=refused.status)
