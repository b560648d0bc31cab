"""Bounds on connections, before there is a request: aiohttp bounds each header, but no head, and no connections."""

import asyncio
import socket
from http import HTTPStatus
from typing import Final, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from loguru import logger

from pipecat_gateway.middleware.limits import connection_logger
from pipecat_gateway.wire.errors import Problem

HEAD_MAX: Final = 16 * 1024
"""Bytes of a request's head, save for the last that were read; and of requests sent behind one that is not answered."""
FIELD_MAX: Final = 8190
"""Bytes of a request's line, and of each of its headers."""
FIELDS_MAX: Final = 64
READ: Final = 8 * 1024
"""Bytes that are read at once. asyncio's own 256 KiB would all be parsed before anything is counted."""
BODY_AHEAD: Final = 16 * 1024
"""Bytes of a body that are read before somebody wants them; twice that at most."""
SPARE: Final = 100
"""Connections besides those that requests keep busy: for health, refusals, and what clients keep open."""
_TOO_LARGE: Final = (
    f'{{"error": "A request has more than {HEAD_MAX} bytes of a head.", "code": "head_too_large"}}'.encode()
)
TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TOO_LARGE), _TOO_LARGE)
)

_BUFFER: Final = memoryview(bytearray(READ))
"""Everybody's: what is read into it is taken out before the next one reads."""


class Connections:
    """Makes connections of a server, so many at once; what ``loop.create_server`` calls for each.

    Past the bound the connection goes that has been without a request for the longest, one that never had any before
    all others, so that callers who just open connections keep out themselves; the new one only when each has a request.
    """

    def __init__(self, server: web.Server, most: int, head_s: float, idle_s: float) -> None:
        """``head_s``: for a head to arrive, once begun; ``idle_s``: between requests."""
        self.server = server
        self.head_s = head_s
        self.idle_s = idle_s
        self._most = most
        self._open: set[Connection] = set()

    def __call__(self) -> asyncio.BaseProtocol:
        """A new one."""
        return Connection(self)

    def opened(self, connection: "Connection") -> bool:
        """Whether there is room for it."""
        if len(self._open) >= self._most:
            idle = min((one for one in self._open if one.idle), key=lambda one: one.use, default=None)
            if idle is None:
                logger.warning("A connection was refused: {} are open, each with a request", self._most)
                return False
            self._open.remove(idle)
            idle.abort()
        self._open.add(connection)
        return True

    def closed(self, connection: "Connection") -> None:
        """It makes room."""
        self._open.discard(connection)


class Connection(web.RequestHandler, asyncio.BufferedProtocol):
    """aiohttp's, with a bound on heads in bytes and time. A BufferedProtocol says itself how much is read at once."""

    __slots__ = ("_all", "_behind", "_body", "_head", "_late", "_seen", "_wire")

    def __init__(self, all_: Connections) -> None:
        super().__init__(
            all_.server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=all_.idle_s,
            logger=connection_logger(),
            access_log=None,  # type: ignore[arg-type]  # as AppRunner allows
            max_line_size=FIELD_MAX,
            max_field_size=FIELD_MAX,
            max_headers=FIELDS_MAX,
            read_bufsize=BODY_AHEAD,
        )
        self._all = all_
        self._head = 0
        """Bytes of a head that has only begun."""
        self._behind = 0
        """Bytes of requests that wait for their turn."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request that arrived."""
        self._seen = 0
        """Requests that had arrived when somebody looked."""
        self._late: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None
        """aiohttp forgets its own when it closes it, though what was sent may not have gone yet."""

    @property
    def idle(self) -> bool:
        """Whether no request would be lost with it, nor an answer."""
        return self._current_request is None and not self._request_in_progress and not self._messages

    @property
    def use(self) -> tuple[bool, float]:
        """Whether it ever had a request, and when it was made or last answered; to compare with others'."""
        return self._request_count > 0, self._next_keepalive_close_time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        self._wire = cast(asyncio.Transport, transport)
        if not self._all.opened(self):
            self._wire.abort()
            return
        # The kernel ends it when the caller takes nothing for so long, whoever waits for that.
        untaken_ms = int(self._all.idle_s * 1000)
        self._wire.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, untaken_ms)
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._all.closed(self)
        self._head_is_here()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Gone at once, whatever is still to be sent."""
        if self._wire is not None:
            self._wire.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio reads into."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read."""
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Let aiohttp parse it, and count what is no body's."""
        if self._force_close:
            return
        if self._close:
            self._finish(data)
            return
        self._look()
        counts, busy = self._body.is_eof() and not self._upgraded, not self.idle
        if not self._messages:
            self._behind = 0
        super().data_received(data)
        if self._look():
            self._behind += self._head + len(data) if busy else 0
            self._head_is_here()
        elif counts and not self._upgraded:
            self._head += len(data)
            if self._head and not self._late:
                self._await_head()
        if max(self._head, self._behind) > HEAD_MAX:
            self._refuse()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """aiohttp's answer to what never gets to a route, with a body like any other; it quotes nothing."""
        answer = super().handle_error(request, status, exc, message)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            answer = Problem(status, "bad_http", "The request is no HTTP that can be read.").response()
            answer.force_close()
        return answer

    def _finish(self, data: bytes) -> None:
        """Of what is under way while the server ends: aiohttp would drop it, so that a body never arrived."""
        if self._upgraded or not self._body.is_eof():
            self._close = False
            try:
                super().data_received(data)
            finally:
                self._close = True

    def _look(self) -> bool:
        """Whether a request has arrived since the last look, save perhaps for its body."""
        if self._request_count == self._seen:
            return False
        self._seen = self._request_count
        if self._messages:
            self._body = self._messages[-1][1]
        elif self._current_request is not None:
            self._body = self._current_request.content
        return True

    def _await_head(self) -> None:
        self._late = self._loop.call_later(self._all.head_s, self._give_up)

    def _head_is_here(self) -> None:
        self._head = 0
        if self._late:
            self._late.cancel()
            self._late = None

    def _refuse(self) -> None:
        logger.info("A connection was closed: it sent more than {} bytes of a head, or behind a request", HEAD_MAX)
        if self.idle and self.transport is not None:
            self.transport.write(TOO_LARGE)
        self._give_up()

    def _give_up(self) -> None:
        """Close it; whoever waits for an answer gets that first."""
        if self.idle:
            self.force_close()
        else:
            self.close()
