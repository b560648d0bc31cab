"""Serves the app of a bot that imported ``pipecatcloud_system``: Pipecat Cloud's Session API.

On the bot's own event loop, so that routes may use its objects. uvicorn has no socket of its own: it goes on with
connections that the probes' thread accepted.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipecat_bot.host import NotServed
from pipecat_bot.readiness import REFUSED, Readiness

_SESSION: Final = b"x-pipecat-session-id"
"""By which the gateway says whose bot it means."""
_ANSWERS_S: Final = 1
_STOP_S: Final = 2.0
"""At the end: for requests under way; and for the app's own shutdown as well."""


class _Resumed(H11Protocol):
    """A connection whose first bytes were read by somebody else."""

    def __init__(self, server: uvicorn.Server, head: bytes) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._head = head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.data_received(self._head)


class _OfOneSession:
    """Keeps from the app what the gateway sent to another session's bot, whose pod had this address before."""

    def __init__(self, app: FastAPI, session_id: str | None) -> None:
        """``session_id``: None outside the operator's Jobs."""
        self._app = app
        self._ours = session_id.encode() if session_id else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        meant = [value for name, value in scope.get("headers", ()) if name == _SESSION]
        if self._ours is None or all(value == self._ours for value in meant):
            await self._app(scope, receive, send)
        else:
            headers = {REFUSED: "other-session"}
            await Response(status_code=HTTPStatus.MISDIRECTED_REQUEST, headers=headers)(scope, receive, send)


@contextlib.asynccontextmanager
async def served(app: FastAPI, probes: Readiness, session_id: str | None) -> AsyncIterator[None]:
    """While in the context, what ``probes`` doesn't answer is answered by ``app``.

    Raises:
        NotServed: the app's own startup failed.
    """
    loop = asyncio.get_running_loop()
    # Without log_config it leaves logging alone, and without Server.serve() the signals.
    config = uvicorn.Config(
        _OfOneSession(app, session_id),
        http="h11",
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_ANSWERS_S,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    try:
        await server.startup(sockets=[])
    except SystemExit as error:
        raise NotServed("The bot's HTTP app did not start: its lifespan raised, see the log.") from error
    resuming: set[asyncio.Task[object]] = set()

    def resume(connection: socket.socket, head: bytes) -> None:
        connection.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(lambda: _Resumed(server, head), connection))
        resuming.add(task)
        task.add_done_callback(resuming.discard)

    def take(connection: socket.socket, head: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the session is over
            loop.call_soon_threadsafe(resume, connection, head)

    ticking = asyncio.create_task(server.main_loop())
    probes.others = take
    try:
        yield
    finally:
        probes.others = None
        ticking.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await server.shutdown(sockets=[])
