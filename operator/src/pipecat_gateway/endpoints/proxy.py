"""Requests to a bot's own HTTP routes, passed on to its pod, streamed both ways; WebSockets too."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from loguru import logger
from multidict import CIMultiDict
from yarl import URL

from pipecat_gateway.endpoints import forwarding
from pipecat_gateway.endpoints.sessions import session_of
from pipecat_gateway.routes import ANY_METHOD, Access, Route
from pipecat_gateway.sessions.views import Session
from pipecat_gateway.sessions.watch import Over, Sessions
from pipecat_gateway.settings import Settings
from pipecat_gateway.wire.errors import Problem
from pipecat_operator.conditions import Phase

CONNECT_S: Final = 5.0
PING_S: Final = 30.0
"""How often each end of a WebSocket is asked whether it is still there; it has half of that to answer."""
CLOSE_S: Final = 1.0
"""For an end of a WebSocket to say goodbye, too."""
MESSAGE_MAX: Final = 256 * 1024
"""Bytes of a WebSocket's message, which is passed on when it is whole."""
LEFT_TO_THE_CALLER: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would make up."""

Headers = CIMultiDict[str]
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


@dataclass(frozen=True, slots=True)
class Close:
    """How a WebSocket ends."""

    code: int
    reason: str = ""


CALLER_GONE: Final = Close(WSCloseCode.GOING_AWAY, "The caller went away.")
BOT_GONE: Final = Close(WSCloseCode.BAD_GATEWAY, "The bot went away.")


class Proxy:
    """One route for all that bots answer themselves."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._idle_s = settings.proxy_idle_seconds
        self._start_s = settings.start_timeout_seconds
        self._sessions = sessions
        self._http: aiohttp.ClientSession

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route(
                method=ANY_METHOD,
                path="/v1/public/{bot}/sessions/{id}/{path:.*}",
                serve=self._serve,
                access=Access.PUBLIC,
                summary="Ask the bot of a session itself, at its own HTTP route, as on Pipecat Cloud",
                details="Passed on and answered as it is, streamed both ways; a WebSocket too. The API key isn't.",
                problems=(400, 404, 410, 502, 503, 504),
                content="*/*",
                cloud=True,
                proxied=True,
            )
        ]

    async def client(self, _: web.Application) -> AsyncIterator[None]:
        """What bots are called with, as long as the app runs."""
        self._http = aiohttp.ClientSession(
            # A connection that was kept may be the one of a bot that has ended, and the next pod has its address.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=LEFT_TO_THE_CALLER,
        )
        async with self._http:
            yield

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        found = await session_of(request, self._sessions)
        # A start is answered before the bot is in the room; who calls it then waits, as on Pipecat Cloud.
        session = await self._sessions.until(found.uid, has_started, self._start_s, lost=lambda _: None)
        url = forwarding.target(session, request.rel_url)
        headers = forwarding.to_bot(request.headers, session.uid, request.remote, request.scheme)
        with self._sessions.until_over(session.uid) as over:
            if web.WebSocketResponse().can_prepare(request):
                return await self._websocket(request, url, headers, over)
            return await self._plain(request, url, headers, over)

    async def _plain(self, request: web.Request, url: URL, headers: Headers, over: Over) -> web.StreamResponse:
        answer: web.StreamResponse | None = None
        try:
            async with (
                _while_it_moves(self._idle_s, over) as moved,
                self._http.request(
                    request.method,
                    url,
                    headers=headers,
                    data=_sent(request, moved) if request.body_exists else None,
                    allow_redirects=False,
                ) as told,
            ):
                if refused := forwarding.refused(told.headers):
                    raise refused
                back = forwarding.to_caller(told.headers)
                answer = web.StreamResponse(status=told.status, reason=told.reason, headers=back)
                await answer.prepare(request)
                async for part in told.content.iter_any():
                    moved()
                    await answer.write(part)
                await answer.write_eof()
        except (aiohttp.ClientError, TimeoutError) as error:
            if answer is None:
                raise self._problem(error, over) from error
            logger.warning("An answer of {} was broken off: {!r}", url.host, error)
            # So that the caller sees that this is not all.
            if request.transport:
                request.transport.abort()
        return answer

    async def _websocket(self, request: web.Request, url: URL, headers: Headers, over: Over) -> web.WebSocketResponse:
        try:
            async with _while_it_moves(self._idle_s, over):
                bot = await self._http.ws_connect(
                    url,
                    protocols=forwarding.protocols_of(request.headers),
                    headers=headers,
                    autoping=False,
                    autoclose=False,
                    heartbeat=PING_S,
                    max_msg_size=MESSAGE_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._problem(error, over) from error
        caller = web.WebSocketResponse(
            protocols=[bot.protocol] if bot.protocol else [],
            autoping=False,
            autoclose=False,
            heartbeat=PING_S,
            compress=False,
            max_msg_size=MESSAGE_MAX,
            timeout=CLOSE_S,
        )
        close = CALLER_GONE
        try:
            await caller.prepare(request)
            close = await _bridged(caller, bot, over)
        finally:
            await _closed(bot, close)
        # Last: a caller who is gone ends this.
        await _closed(caller, close)
        return caller

    def _problem(self, error: aiohttp.ClientError | TimeoutError, over: Over) -> Problem:
        """What kept the bot from answering."""
        if over.done():
            return what_is_over(over)
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status >= 400:
            refused = forwarding.refused(error.headers or {})
            return refused or Problem(error.status, "websocket_refused", "The bot refused the WebSocket.")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return Problem(504, "bot_timeout", f"The bot's pod took no connection within {CONNECT_S:g} s.")
        if isinstance(error, aiohttp.ClientConnectorError):
            return forwarding.no_routes()
        if isinstance(error, TimeoutError):
            return Problem(504, "bot_timeout", f"Nothing was sent, by bot or caller, for {self._idle_s:g} s.")
        if isinstance(error.__cause__, web.RequestPayloadError):
            return Problem(400, "bad_encoding", "The request's body is not encoded as its headers say.")
        return Problem(502, "bot_gone", "The bot closed the connection before it answered.")


def has_started(session: Session) -> bool:
    """Its bot can be asked, or never could."""
    return session.phase not in (Phase.PENDING, Phase.STARTING)


def what_is_over(over: Over) -> Problem:
    """Why nothing can be asked any more."""
    result = over.result()
    return result if isinstance(result, Problem) else forwarding.over(result)


@contextlib.asynccontextmanager
async def _while_it_moves(idle_s: float, over: Over) -> AsyncIterator[Callable[[], None]]:
    """Ends with a TimeoutError when ``over`` is done, or what it yields was not called for so long."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_s) as limit:

        def moved() -> None:
            if not over.done():
                limit.reschedule(loop.time() + idle_s)

        def end(_: Over) -> None:
            if not limit.expired():
                limit.reschedule(loop.time())

        over.add_done_callback(end)
        try:
            yield moved
        finally:
            over.remove_done_callback(end)


async def _sent(request: web.Request, moved: Callable[[], None]) -> AsyncIterator[bytes]:
    """The request's body, as it comes."""
    async for part in request.content.iter_any():
        moved()
        yield part


async def _bridged(caller: web.WebSocketResponse, bot: aiohttp.ClientWebSocketResponse, over: Over) -> Close:
    """Pass on messages both ways until either side, or the session, ends; how it is to be closed."""
    up = asyncio.create_task(_pumped(caller, bot, CALLER_GONE))
    down = asyncio.create_task(_pumped(bot, caller, BOT_GONE))
    pumps = [down, up]
    try:
        while pumps:
            ends: list[asyncio.Future[Any]] = [*pumps, over]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for pump in [pump for pump in pumps if pump.done()]:
                if close := pump.result():
                    return close
                pumps.remove(pump)
            if over.done():
                return Close(WSCloseCode.GOING_AWAY, what_is_over(over).error)
        return BOT_GONE
    finally:
        up.cancel()
        down.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pumped(source: Socket, to: Socket, lost: Close) -> Close | None:
    """Pass on messages until ``source`` closes, and how; None: ``to`` takes none, and will tell why itself."""
    try:
        while True:
            message = await source.receive()
            match message.type:
                case WSMsgType.TEXT:
                    await to.send_str(message.data)
                case WSMsgType.BINARY:
                    await to.send_bytes(message.data)
                case WSMsgType.PING:
                    await to.ping(message.data)
                case WSMsgType.PONG:
                    await to.pong(message.data)
                case WSMsgType.CLOSE:
                    return Close(message.data or WSCloseCode.OK, message.extra or "")
                case _:
                    return lost
    except ConnectionError:
        return None


async def _closed(socket: Socket, how: Close) -> None:
    """Whatever state it is in."""
    with contextlib.suppress(ConnectionError):
        await socket.close(code=how.code, message=how.reason.encode())
