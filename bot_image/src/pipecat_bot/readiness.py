"""``/readyz`` (200 only while the bot is in the room) and ``/livez``.

On a thread: a bot that computes for a second must not seem to have left the room. What asks for something else is
handed over to whoever serves the bot's own routes.
"""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Final

PORT: Final = 8080
REFUSED: Final = "X-Pipecat-Refused"
"""In an answer that is the host's instead of the bot's, for the gateway: why."""
_NO_ROUTES: Final = b"404 Not Found\r\n%s: no-routes" % REFUSED.encode()
_LONGEST_HEAD: Final = 8192
_LINE: Final = re.compile(rb"\n")
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_PATIENCE_S: Final = 2.0

Taker = Callable[[socket.socket, bytes], None]
"""Goes on with a connection, of which these first bytes have been read. Called on any thread."""


class Readiness(socketserver.ThreadingTCPServer):
    """Answers on a thread until the process ends."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], in_room: Callable[[], bool]) -> None:
        self.in_room = in_room
        self.others: Taker | None = None
        """Of what isn't a probe; without one it is answered 404."""
        super().__init__(address, _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: Readiness
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(_PATIENCE_S)
        with contextlib.suppress(OSError):  # the client went away, or dawdled
            self._answer()

    def _answer(self) -> None:
        head = self._read_until(_LINE, b"")
        words = head.split(None, 2)
        path = words[1] if len(words) > 1 else b""
        status = {b"/livez": b"200 OK", b"/readyz": self._readiness()}.get(path)
        others = self.server.others
        if status is None and others is not None and head:
            # By another object, because the server closes this one.
            others(socket.socket(fileno=self.request.detach()), head)
            return
        # A connection that is closed with something unread is reset, and the answer may be lost.
        self._read_until(_BLANK_LINE, head)
        status = status or _NO_ROUTES
        self.request.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)

    def _read_until(self, mark: re.Pattern[bytes], head: bytes) -> bytes:
        while not mark.search(head) and len(head) < _LONGEST_HEAD:
            more = self.request.recv(_LONGEST_HEAD)
            if not more:
                break
            head += more
        return head

    def _readiness(self) -> bytes:
        return b"200 OK" if self.server.in_room() else b"503 Service Unavailable"


def serve(host: str, in_room: Callable[[], bool]) -> Readiness:
    """Answer on ``host``:8080 until the process ends.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    server = Readiness((host, PORT), in_room)
    threading.Thread(target=server.serve_forever, name="readiness", daemon=True).start()
    return server
