"""Connections that are closed when they are said to be, and given to no former leader."""

import asyncio
import contextlib
import socket
import weakref
from collections.abc import Callable
from typing import Any, Final

import aiohttp

_CLOSE_S: Final = 1.0


class Connector(aiohttp.TCPConnector):
    """One whose ``close`` waits for the end of every connection it made, for a second at most.

    aiohttp's own leaves those that ended early (a watch, a cancelled call, a body refused half-way) to say goodbye for
    up to 30 s by themselves, past the end of the event loop.
    """

    def __init__(self, guard: Callable[[], None] = lambda: None, **settings: Any) -> None:
        """``guard``: called each time that a request has got its connection, and may raise: a former leader's requests
        may have waited for one when it was frozen. ``settings``: as for aiohttp's.
        """
        super().__init__(socket_factory=self._socket, **settings)
        self._guard = guard
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, *_ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        """A connection for a request, if the guard lets it go."""
        # Asked here, not by aiohttp's tracing: that costs every call a tenth.
        connection = await super().connect(req, traces, timeout)
        try:
            self._guard()
        except BaseException:
            connection.release()
            raise
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Drop every connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await super().close(abort_ssl=abort_ssl)
                while still := [each for each in self._sockets if each.fileno() >= 0]:
                    for each in still:
                        with contextlib.suppress(OSError):
                            each.shutdown(socket.SHUT_RDWR)
                    await asyncio.sleep(0)
