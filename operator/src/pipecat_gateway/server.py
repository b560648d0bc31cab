"""The gateway's routes."""

import asyncio
import time

from aiohttp import web
from loguru import logger
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from pipecat_gateway.endpoints.meta import MetaRoutes
from pipecat_gateway.endpoints.proxy import Proxy
from pipecat_gateway.endpoints.sessions import SessionRoutes
from pipecat_gateway.endpoints.starts import StartRoutes
from pipecat_gateway.middleware import cors, limits
from pipecat_gateway.middleware.access import Find, access
from pipecat_gateway.routes import BOT, KEY, SESSION, Handler, added, method_not_allowed, path_of, route_of
from pipecat_gateway.sessions.watch import Sessions
from pipecat_gateway.settings import Settings
from pipecat_gateway.wire import requests
from pipecat_gateway.wire.errors import Problem
from pipecat_operator.kube import ApiError

BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)
CLIENT_GONE = 499
"""What nginx logs of a caller who went away before the answer."""


class Server:
    """Starts, reads and stops sessions over HTTP."""

    def __init__(self, settings: Settings, sessions: Sessions, find: Find) -> None:
        self._settings = settings
        self._sessions = sessions
        self._find = find
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
            "Starts, by endpoint, Bot (none: refused before it was looked for) and outcome: ok, gone (the caller went "
            "away), else the code of the error.",
            ["endpoint", "bot", "outcome"],
            registry=self._registry,
        )
        self._start_seconds = Histogram(
            "pipecat_gateway_start_seconds",
            "How long starts took to be answered, by Bot and outcome.",
            ["bot", "outcome"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def app(self) -> web.Application:
        """All routes."""
        most = self._settings.open_requests, self._settings.proxied_requests
        who = access(self._find, self._settings.bot)
        middlewares = [self._middleware, limits.bounded(*most), who, limits.shared(*most)]
        if self._settings.keys is None:
            middlewares.append(cors.closed(self._settings.cors_origins, self._settings.loopback))
        app = web.Application(middlewares=middlewares, client_max_size=requests.REQUEST_MAX)
        app.on_response_prepare.append(cors.headers(self._settings.cors_origins))
        starts, meta = StartRoutes(self._settings, self._sessions), MetaRoutes(self._sessions, self._metrics)
        proxy = Proxy(self._settings, self._sessions)
        routes = [*starts.routes(), *SessionRoutes(self._sessions).routes(), *proxy.routes(), *meta.routes()]
        meta.describe(routes, secured=self._settings.keys is not None)
        added(app, routes)
        app.on_cleanup.append(starts.tidied)
        app.cleanup_ctx.append(proxy.client)
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
            route = route_of(request)
            answer = problem.response(documented=bool(route and route.cloud))
            cause = problem.__cause__ if isinstance(problem.__cause__, ApiError) else problem
            self._note(request, problem.status, problem.code, began, cause)
        else:
            self._note(request, answer.status, "ok", began)
        return answer

    def _note(
        self, request: web.Request, status: int, outcome: str, began: float, cause: BaseException | None = None
    ) -> None:
        """Count, and one log line: no body and no query in it, and the path as sent, which has no line breaks.

        It begins with the API key's id, or - where there is none; a start's ends with the session's UID.
        """
        took = time.monotonic() - began
        path, route = path_of(request), route_of(request)
        # Any word may stand for a method where there is no route, or one for all methods.
        self._answers.labels(route.method if route else "", path or "unknown", status).observe(took)
        if route and route.starts:
            bot = request.get(BOT, "")
            self._starts.labels(route.path, bot, outcome).inc()
            self._start_seconds.labels(bot, outcome).observe(took)
        if not (route and route.quiet):
            who = request[KEY].id if KEY in request else "-"
            line = f"{who} {request.method} {request.rel_url.raw_path} {status} {outcome} {took * 1000:.0f} ms"
            if SESSION in request:
                line += f", session {request[SESSION]}"
            if status >= 500:
                logger.warning("{}: {}", line, cause)
            else:
                logger.info("{}", line)

    def _metrics(self) -> bytes:
        return generate_latest(self._registry)


def _problem(error: Exception) -> Problem:
    """What to tell the caller of an error that ended a request."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "too_large", f"A request may have {requests.REQUEST_MAX} bytes.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        return method_not_allowed(error)
    if isinstance(error, web.HTTPException):
        return Problem(error.status, error.reason.lower().replace(" ", "_"), f"{error.reason}.")
    logger.opt(exception=error).error("A request failed by a defect of the gateway")
    return Problem(500, "internal", "Something is wrong with the gateway; its log says what.")
