"""Starting sessions."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from loguru import logger

from pipecat_gateway.middleware import limits
from pipecat_gateway.routes import BOT, SESSION, Access, Route, answer, key_of, query_of
from pipecat_gateway.sessions import start, views
from pipecat_gateway.sessions.start import Start
from pipecat_gateway.sessions.views import Session
from pipecat_gateway.sessions.watch import Sessions
from pipecat_gateway.settings import Settings
from pipecat_gateway.wire import idempotency, requests
from pipecat_gateway.wire.errors import AtCapacity, Problem
from pipecat_gateway.wire.models import (
    RunnerStartRequest,
    StartBotRequest,
    Started,
    StartedBot,
    StartQuery,
    StartRequest,
)

Reached = Callable[[Session], bool]

TIDY_S = 5.0
"""At the end, for the stop of sessions that nobody waits for any more."""
PROBLEMS = (400, 404, 408, 409, 413, 422, 429, 502, 504)


@dataclass(frozen=True, slots=True)
class Order:
    """A start as it is made: what was asked for is in the manifest."""

    bot: str
    name: str
    manifest: requests.Json = field(repr=False)
    own_room: bool
    own_token: str | None = field(repr=False)
    fingerprint: str | None
    """None: it came without an Idempotency-Key."""


class StartRoutes:
    """Three shapes of one thing."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._settings = settings
        self._sessions = sessions
        self._tidying: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method="POST",
                path="/v1/public/{bot}/start",
                serve=self._cloud,
                access=Access.PUBLIC,
                summary="Start a session, as on Pipecat Cloud",
                details="Answers as soon as room and token stand, or with wait=joined when the bot is in the room. "
                "With an Idempotency-Key the same request is answered with the same session, as long as that is there.",
                request=StartRequest,
                query=StartQuery,
                answer=Started,
                problems=PROBLEMS,
                cloud=True,
                starts=True,
            ),
            Route(
                method="POST",
                path="/start",
                serve=self._runner,
                access=Access.PUBLIC,
                summary="Start a session of the gateway's own Bot, as with Pipecat's development runner",
                request=RunnerStartRequest,
                query=StartQuery,
                answer=Started,
                problems=PROBLEMS,
                starts=True,
            ),
            Route(
                method="POST",
                path="/start_bot",
                serve=self._guide,
                access=Access.PUBLIC,
                summary="Start a session of the gateway's own Bot, as in Pipecat's guide",
                details="Answers when the bot is in the room.",
                request=StartBotRequest,
                answer=StartedBot,
                problems=PROBLEMS,
                starts=True,
            ),
        ]

    async def tidied(self, _: web.Application) -> None:
        """Before the process ends."""
        if self._tidying:
            await asyncio.wait(self._tidying, timeout=TIDY_S)

    async def _cloud(self, request: web.Request) -> web.Response:
        return await self._start(request, request.match_info["bot"], StartRequest)

    async def _runner(self, request: web.Request) -> web.Response:
        return await self._start(request, self._settings.bot, RunnerStartRequest)

    async def _start(self, request: web.Request, bot: str, model: type[StartRequest]) -> web.Response:
        joined = query_of(request, StartQuery).wait == "joined"
        session, token = await self._started(
            request,
            self._order(request, start.start_of(bot, await self._asked(request), key_of(request), model)),
            joined,
        )
        room = session.room if token else None
        return answer(Started(daily_room=room, daily_token=token, session_id=session.uid), leave_out_none=True)

    async def _guide(self, request: web.Request) -> web.Response:
        session, token = await self._started(
            request,
            self._order(request, start.start_bot_of(self._settings.bot, await self._asked(request))),
            joined=True,
        )
        return answer(StartedBot(room_url=session.room or "", token=token or ""))

    async def _asked(self, request: web.Request) -> requests.Json:
        return requests.parse(await limits.body(request, self._settings.body_seconds))

    def _order(self, request: web.Request, asked: Start) -> Order:
        """What is left of a request while others are waited for; many may wait."""
        key = key_of(request)
        once = idempotency.key_of(request.headers.getall(idempotency.HEADER, []))
        unique = secrets.token_hex(8)
        name = idempotency.name_of(key.tenant, key.id, once) if once else f"gw-{unique}"
        fingerprint = idempotency.fingerprint_of(once, start.asked(asked)) if once else None
        manifest = start.manifest(asked, key, self._settings.namespace, name, f"gw-{unique}-room", fingerprint)
        own_room = asked.own_url is not None
        return Order(asked.bot, name, start.packed(manifest), own_room, asked.own_token, fingerprint)

    async def _started(self, request: web.Request, order: Order, joined: bool) -> tuple[Session, str | None]:
        """Make the session, or meet the one of the same Idempotency-Key, and wait for it."""
        await self._sessions.bot(order.bot)
        request[BOT] = order.bot
        name, own_room, once = order.name, order.own_room, order.fingerprint is not None
        making = asyncio.create_task(self._made(request, order))
        # With the last reference to it the manifest goes as soon as it is sent, before the wait for the bot.
        del order
        try:
            # Shielded: a caller who goes away meanwhile must not leave us ignorant of what was made.
            session, mine = await asyncio.shield(making)
            session = await self._waited(session, mine, joined)
            return session, None if own_room else await self._sessions.user_token(session)
        except AtCapacity:
            raise
        except BaseException:
            # Whoever has an Idempotency-Key may come back for the session; else it ends as NoShow.
            if not once:
                self._tidying_by(self._tidy(making, name))
            raise

    async def _made(self, request: web.Request, order: Order) -> tuple[Session, bool]:
        """The session, and whether it is this request's."""
        session, mine = await self._sessions.create(order.manifest)
        if session.fingerprint != order.fingerprint:
            raise idempotency.mismatch()
        request[SESSION] = session.uid
        # Whoever made it may have ended before this: any of those who meet it can do it.
        if order.own_token and not session.finished:
            try:
                await self._sessions.hand_token(session, order.own_token)
            except Problem:
                if mine:
                    await self._delete(session)
                raise
        return session, mine

    async def _waited(self, session: Session, mine: bool, joined: bool) -> Session:
        """The session, once it is as far as was asked."""
        if not mine and (views.bot_was_in if joined else views.room_was_ready)(session):
            return session
        reached: Reached = views.bot_is_in if joined else views.room_is_ready
        try:
            if problem := views.ended_early(session):
                raise problem
            return await self._sessions.until(session.uid, reached, self._settings.start_timeout_seconds)
        except AtCapacity:
            # So that the next try is a new one.
            await asyncio.shield(self._tidying_by(self._delete(session)))
            raise

    async def _delete(self, session: Session) -> None:
        try:
            await self._sessions.delete(session)
        except Problem as problem:
            logger.warning("Session {} was not deleted, and is stopped instead: {}", session.name, problem.__cause__)
            await self._stop(session.name)

    def _tidying_by(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Done before the process ends."""
        tidying = asyncio.create_task(work)
        self._tidying.add(tidying)
        tidying.add_done_callback(self._tidying.discard)
        return tidying

    async def _tidy(self, making: asyncio.Task[tuple[Session, bool]], name: str) -> None:
        """Stop a session that nobody has the token of, so that nobody could ever join."""
        await asyncio.wait([making])
        refused = making.exception()
        if isinstance(refused, Problem) and refused.status < 500:
            return
        # Anything else may have been made although we were told otherwise.
        await self._stop(name)

    async def _stop(self, name: str) -> None:
        try:
            await self._sessions.stop(name)
        except Problem as problem:
            if problem.status != 404:
                logger.warning("Session {} was not stopped and will end as NoShow: {}", name, problem)
