"""Reading and stopping sessions: in Pipecat Cloud's two families of paths, and in our own."""

from http import HTTPStatus

from aiohttp import web

from pipecat_gateway.routes import Access, Route, answer, key_of, query_of
from pipecat_gateway.sessions import answers
from pipecat_gateway.sessions.views import Session, visible
from pipecat_gateway.sessions.watch import Sessions
from pipecat_gateway.wire.errors import Problem
from pipecat_gateway.wire.models import (
    Organizations,
    ServiceAnswer,
    SessionDetails,
    SessionList,
    SessionsQuery,
    SessionStatus,
    Stopped,
)
from pipecat_gateway.wire.requests import UID

FAMILIES = {"": "/v1/agents/{bot}", ", by the path that its CLI calls": "/v1/organizations/{org}/services/{bot}"}
"""The second's organization is not looked at: the API key's tenant is whose sessions are seen."""
ASKED_BEFORE = "Pipecat Cloud's CLI asks for it before it starts a session."


class SessionRoutes:
    """Of the caller's tenant only."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def routes(self) -> list[Route]:
        """All of them."""
        found: list[Route] = []
        for said, root in FAMILIES.items():
            found += [
                Route(
                    method="GET",
                    path=f"{root}/sessions",
                    serve=self._list,
                    access=Access.PRIVATE,
                    summary=f"The sessions of a Bot, the latest first{said}",
                    query=SessionsQuery,
                    answer=SessionList,
                    problems=(400, 404),
                    cloud=True,
                ),
                Route(
                    method="GET",
                    path=f"{root}/sessions/{{id}}",
                    serve=self._details,
                    access=Access.PRIVATE,
                    summary=f"One session{said}",
                    answer=SessionDetails,
                    problems=(404,),
                    cloud=True,
                ),
                Route(
                    method="DELETE",
                    path=f"{root}/sessions/{{id}}",
                    serve=self._stop_of_bot,
                    access=Access.PRIVATE,
                    summary=f"Stop a session{said}",
                    answer=Stopped,
                    problems=(400, 404, 409),
                    cloud=True,
                ),
            ]
        return [
            *found,
            Route(
                method="GET",
                path="/v1/organizations/{org}/services/{bot}",
                serve=self._service,
                access=Access.PRIVATE,
                summary="A Bot",
                details=ASKED_BEFORE,
                answer=ServiceAnswer,
                problems=(404,),
                cloud=True,
            ),
            Route(
                method="GET",
                path="/v1/organizations",
                serve=self._organizations,
                access=Access.PRIVATE,
                summary="The caller's tenant, as an organization",
                details=ASKED_BEFORE,
                answer=Organizations,
                cloud=True,
            ),
            Route(
                method="GET",
                path="/sessions/{id}",
                serve=self._get,
                access=Access.PRIVATE,
                summary="One session, in the operator's words",
                answer=SessionStatus,
                problems=(404,),
            ),
            Route(
                method="DELETE",
                path="/sessions/{id}",
                serve=self._stop,
                access=Access.PRIVATE,
                summary="Stop a session",
                answer=Stopped,
                problems=(404, 409),
            ),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        asked, key = query_of(request, SessionsQuery), key_of(request)
        bot = request.match_info["bot"]
        theirs = [session for session in self._sessions.all() if session.bot == bot and visible(session, key)]
        return answer(answers.page(theirs, asked, await self._bot_uid(bot, known=bool(theirs)), key.tenant))

    async def _details(self, request: web.Request) -> web.Response:
        session = await session_of(request, self._sessions)
        return answer(answers.details(session, await self._bot_uid(session.bot, known=True), key_of(request).tenant))

    async def _bot_uid(self, name: str, known: bool) -> str | None:
        """None: the Bot was deleted, and only its sessions are left, which make it ``known``."""
        try:
            return (await self._sessions.bot(name)).uid
        except Problem as problem:
            if known and problem.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def _stop_of_bot(self, request: web.Request) -> web.Response:
        if not UID.fullmatch(request.match_info["id"].lower()):
            raise Problem(400, "400", "A session's id is a UUID.")
        return await self._stop(request)

    async def _service(self, request: web.Request) -> web.Response:
        bot, key = await self._sessions.bot(request.match_info["bot"]), key_of(request)
        live = sum(s.bot == bot.name and not s.finished and visible(s, key) for s in self._sessions.all())
        return answer(answers.service(bot, key.tenant, live))

    async def _organizations(self, request: web.Request) -> web.Response:
        return answer(answers.organizations(key_of(request).tenant))

    async def _get(self, request: web.Request) -> web.Response:
        return answer(answers.described(await session_of(request, self._sessions)), leave_out_none=True)

    async def _stop(self, request: web.Request) -> web.Response:
        session = await session_of(request, self._sessions)
        await self._sessions.stop(session.name, session.uid)
        return answer(Stopped(session_id=session.uid))


async def session_of(request: web.Request, sessions: Sessions) -> Session:
    """The session of the path, if it is the caller's, and of the path's Bot.

    Raises:
        Problem: 404: what is somebody else's is not there.
    """
    key, bot = key_of(request), request.match_info.get("bot")

    def theirs(session: Session) -> bool:
        return visible(session, key) and bot in (None, session.bot)

    return await sessions.find(request.match_info["id"].lower(), theirs)
