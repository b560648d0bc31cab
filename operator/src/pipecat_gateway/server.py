"""The gateway's routes."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from loguru import logger
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from pipecat_gateway import cors, limits, requests
from pipecat_gateway.access import KEY, Find, access
from pipecat_gateway.errors import Problem
from pipecat_gateway.paths import QUIET, STARTS, path_of, starts
from pipecat_gateway.requests import Start
from pipecat_gateway.sessions import Sessions, not_there
from pipecat_gateway.settings import Settings
from pipecat_operator.api import BotSession
from pipecat_operator.kube import ApiError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)
TIDY_S = 5.0
"""At the end, for the stop of sessions that nobody waits for any more."""
CLIENT_GONE = 499
"""What nginx logs of a caller who went away before the answer."""


class Server:
    """Starts, reads and stops sessions over HTTP."""

    def __init__(self, settings: Settings, sessions: Sessions, find: Find) -> None:
        self._settings = settings
        self._sessions = sessions
        self._find = find
        self._tidying: set[asyncio.Task[None]] = set()
        self._registry = CollectorRegistry()
        self._answers = Histogram(
            "pipecat_gateway_request_seconds",
            "Requests, by route and status.",
            ["method", "route", "status"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self._starts = Counter(
            "pipecat_gateway_starts",
            "Starts, by endpoint and outcome: ok, gone (the caller went away), else the code of the error.",
            ["endpoint", "outcome"],
            registry=self._registry,
        )

    def app(self) -> web.Application:
        """All routes."""
        bounds = limits.bounded(self._settings.open_requests)
        who = access(self._find, self._settings.bot)
        app = web.Application(middlewares=[self._middleware, bounds, who], client_max_size=requests.REQUEST_MAX)
        app.on_response_prepare.append(cors.headers(self._settings.cors_origins))
        guide, runner, cloud = STARTS
        app.add_routes(
            [
                web.post(guide, self._start_bot),
                web.post(runner, self._start),
                web.post(cloud, self._start),
                web.get("/sessions/{id}", self._get),
                web.delete("/sessions/{id}", self._stop),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        app.on_cleanup.append(self._tidied)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Problems as JSON, preflights, the request counted and logged."""
        began = time.monotonic()
        try:
            asked = cors.is_preflight(request)
            answer = cors.preflight(request, self._settings.cors_origins) if asked else await handler(request)
        except asyncio.CancelledError:
            self._note(request, CLIENT_GONE, "gone", began)
            raise
        except Exception as error:
            problem = _problem(error)
            answer = problem.response()
            cause = problem.__cause__ if isinstance(problem.__cause__, ApiError) else problem
            self._note(request, problem.status, problem.code, began, cause)
        else:
            self._note(request, answer.status, "ok", began)
        return answer

    def _note(
        self, request: web.Request, status: int, outcome: str, began: float, cause: BaseException | None = None
    ) -> None:
        """Count, and one log line: no body and no query in it, and the path as sent, which has no line breaks.

        It begins with the API key's id, or - where there is none.
        """
        took = time.monotonic() - began
        path = path_of(request)
        route = path or "unknown"
        # Any word may stand for a method where there is no route.
        self._answers.labels(request.method if path else "", route, status).observe(took)
        if starts(request):
            self._starts.labels(route, outcome).inc()
        if route not in QUIET:
            who = request[KEY].id if KEY in request else "-"
            line = f"{who} {request.method} {request.rel_url.raw_path} {status} {outcome} {took * 1000:.0f} ms"
            if status >= 500:
                logger.warning("{}: {}", line, cause)
            else:
                logger.info("{}", line)

    async def _asked(self, request: web.Request) -> requests.Json:
        """The request's body."""
        return requests.parse(await limits.body(request, self._settings.body_seconds))

    async def _named(self, request: web.Request) -> BotSession:
        """The session of the path, if it is the key's business."""
        uid = request.match_info["id"]
        session = await self._sessions.find(uid)
        if not request[KEY].may_use(session.spec.bot_ref.name):
            raise not_there(uid)
        return session

    async def _start_bot(self, request: web.Request) -> web.Response:
        """Pipecat's guide: answers when the bot is in the room."""
        start = requests.start_bot_of(self._settings.bot, await self._asked(request))
        session, token = await self._started(start, requests.bot_is_in)
        return web.json_response({"room_url": _room_url(session), "token": token})

    async def _start(self, request: web.Request) -> web.Response:
        """Pipecat's development runner, and Pipecat Cloud: answers as soon as room and token stand."""
        bot = request.match_info.get("bot", self._settings.bot)
        start = requests.start_of(bot, await self._asked(request))
        session, token = await self._started(start, requests.room_is_ready)
        uid = session.metadata.uid
        return web.json_response({"dailyRoom": _room_url(session), "dailyToken": token, "sessionId": uid})

    async def _started(self, start: Start, reached: Callable[[BotSession], bool]) -> tuple[BotSession, str]:
        """Make the session and wait; whoever can't be answered leaves no session behind."""
        name = f"gw-{secrets.token_hex(8)}"
        manifest = requests.manifest(start, self._settings.namespace, name)
        creating = asyncio.create_task(self._sessions.create(manifest))
        try:
            # Shielded: a caller who goes away meanwhile must not leave us ignorant of what was made.
            made = await asyncio.shield(creating)
            session = await self._sessions.until(made.metadata.uid, reached, self._settings.start_timeout_seconds)
            return session, await self._sessions.user_token(session)
        except BaseException:
            tidying = asyncio.create_task(self._tidy(creating, name))
            self._tidying.add(tidying)
            tidying.add_done_callback(self._tidying.discard)
            raise

    async def _tidy(self, creating: asyncio.Task[BotSession], name: str) -> None:
        """Stop a session that nobody has the token of, so that nobody could ever join."""
        await asyncio.wait([creating])
        refused = creating.exception()
        if isinstance(refused, Problem) and refused.status < 500:
            return
        # Anything else may have been made although we were told otherwise.
        try:
            await self._sessions.stop(name)
        except Problem as problem:
            if problem.status != 404:
                logger.warning("Session {} was not stopped and will end as NoShow: {}", name, problem)

    async def _tidied(self, _: web.Application) -> None:
        """Before the process ends."""
        if self._tidying:
            await asyncio.wait(self._tidying, timeout=TIDY_S)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(requests.described(await self._named(request)))

    async def _stop(self, request: web.Request) -> web.Response:
        meta = (await self._named(request)).metadata
        await self._sessions.stop(meta.name, meta.uid)
        return web.json_response({"status": "terminated", "session_id": meta.uid})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._sessions.synced:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the sessions are not listed yet: the log says why\n")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), content_type="text/plain", charset="utf-8")


def _problem(error: Exception) -> Problem:
    """What to tell the caller of an error that ended a request."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "too_large", f"A request may have {requests.REQUEST_MAX} bytes.")
    if isinstance(error, web.HTTPException):
        return Problem(error.status, error.reason.lower().replace(" ", "_"), f"{error.reason}.")
    logger.opt(exception=error).error("A request failed by a defect of the gateway")
    return Problem(500, "internal", "Something is wrong with the gateway; its log says what.")


def _room_url(session: BotSession) -> str:
    return session.status.room.url if session.status.room else ""
