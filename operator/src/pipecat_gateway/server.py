"""The gateway's routes."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from loguru import logger
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from pipecat_gateway import requests
from pipecat_gateway.errors import Problem
from pipecat_gateway.requests import Start
from pipecat_gateway.sessions import Sessions
from pipecat_gateway.settings import Settings
from pipecat_operator.api import BotSession

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Starts, reads and stops sessions over HTTP."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings = settings
        self._sessions = sessions
        self._registry = CollectorRegistry()
        self._answers = Histogram(
            "pipecat_gateway_request_seconds",
            "Requests, by route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )

    def app(self) -> web.Application:
        """All routes."""
        app = web.Application(middlewares=[self._middleware], client_max_size=requests.REQUEST_MAX)
        app.add_routes(
            [
                web.post("/start_bot", self._start_bot),
                web.post("/start", self._start),
                web.post("/v1/public/{bot}/start", self._start),
                web.get("/sessions/{id}", self._get),
                web.delete("/sessions/{id}", self._stop),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Problems as JSON, CORS, one log line a request. No bodies and no queries in the log."""
        began = time.monotonic()
        try:
            preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
            answer = web.Response(status=204) if preflight else await handler(request)
        except Problem as problem:
            answer = problem.response()
        except web.HTTPRequestEntityTooLarge:
            answer = Problem(413, "too_large", f"A request may have {requests.REQUEST_MAX} bytes.").response()
        except web.HTTPException as error:
            answer = Problem(error.status, error.reason.lower().replace(" ", "_"), f"{error.reason}.").response()
        self._cors(request, answer)
        took = time.monotonic() - began
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unknown"
        self._answers.labels(request.method, route, answer.status).observe(took)
        if route not in ("/healthz", "/readyz", "/metrics"):
            logger.info("{} {} {} {:.0f} ms", request.method, request.path, answer.status, took * 1000)
        return answer

    def _cors(self, request: web.Request, answer: web.StreamResponse) -> None:
        origin, allowed = request.headers.get("Origin"), self._settings.cors_origins
        if origin and (origin in allowed or "*" in allowed):
            answer.headers["Access-Control-Allow-Origin"] = "*" if "*" in allowed else origin
            answer.headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
            answer.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
            answer.headers["Vary"] = "Origin"

    async def _start_bot(self, request: web.Request) -> web.Response:
        """Pipecat's guide: answers when the bot is in the room."""
        start = requests.start_bot_of(self._settings.bot, requests.parse(await request.read()))
        session, token = await self._started(request, start, requests.bot_is_in)
        return web.json_response({"room_url": _room_url(session), "token": token})

    async def _start(self, request: web.Request) -> web.Response:
        """Pipecat's development runner, and Pipecat Cloud: answers as soon as room and token stand."""
        bot = request.match_info.get("bot") or self._settings.bot
        start = requests.start_of(bot, requests.parse(await request.read()))
        session, token = await self._started(request, start, requests.room_is_ready)
        uid = session.metadata.uid
        return web.json_response({"dailyRoom": _room_url(session), "dailyToken": token, "sessionId": uid})

    async def _started(
        self, request: web.Request, start: Start, reached: Callable[[BotSession], bool]
    ) -> tuple[BotSession, str]:
        """Make the session and wait; whoever can't be answered leaves no session behind."""
        made = await self._sessions.create(requests.manifest(start, self._settings.namespace))
        try:
            session = await self._sessions.until(made.metadata.uid, reached, self._settings.start_timeout_seconds)
            return session, await self._sessions.user_token(session)
        except BaseException:
            # Also when the caller went away: nobody has the token, so nobody could ever join.
            with contextlib.suppress(Problem):
                await asyncio.shield(self._sessions.stop(made))
            raise

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(requests.described(await self._sessions.find(request.match_info["id"])))

    async def _stop(self, request: web.Request) -> web.Response:
        session = await self._sessions.find(request.match_info["id"])
        await self._sessions.stop(session)
        return web.json_response({"status": "terminated", "session_id": session.metadata.uid})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._sessions.synced:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the sessions are not listed yet\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), content_type="text/plain", charset="utf-8")


def _room_url(session: BotSession) -> str:
    return session.status.room.url if session.status.room else ""
