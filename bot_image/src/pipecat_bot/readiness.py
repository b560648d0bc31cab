"""``/readyz`` (200 only while the bot is in the room) and ``/livez``.

On a thread: a bot that computes for a second must not seem to have left the room.
"""

import contextlib
import socketserver
import threading
from collections.abc import Callable
from typing import Final

PORT: Final = 8080
_LONGEST_LINE: Final = 8192
_MOST_HEADERS: Final = 100
_PATIENCE_S: Final = 2.0


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], in_room: Callable[[], bool]) -> None:
        self.in_room = in_room
        super().__init__(address, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    timeout = _PATIENCE_S
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client went away, or dawdled
            self._answer()

    def _answer(self) -> None:
        words = self.rfile.readline(_LONGEST_LINE).split()
        for _ in range(_MOST_HEADERS):
            if not self.rfile.readline(_LONGEST_LINE).strip():
                break
        path = words[1] if len(words) > 1 else b""
        status = {b"/livez": b"200 OK", b"/readyz": self._readiness()}.get(path, b"404 Not Found")
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)

    def _readiness(self) -> bytes:
        return b"200 OK" if self.server.in_room() else b"503 Service Unavailable"


def serve(host: str, in_room: Callable[[], bool]) -> None:
    """Answer on ``host``:8080 until the process ends.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    server = _Server((host, PORT), in_room)
    threading.Thread(target=server.serve_forever, name="readiness", daemon=True).start()
