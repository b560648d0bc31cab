"""/readyz and /livez without a web framework: importing one would cost more than the rest of the host."""

import asyncio
from collections.abc import Callable
from typing import Final

PORT: Final = 8080
READ_S: Final = 5.0


async def serve(host: str, ready: Callable[[], bool]) -> asyncio.Server:
    """Listen. /readyz answers 200 only while ``ready``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_S):
                request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(b" ", 2)[1]
            status = {b"/livez": "200 OK", b"/readyz": "200 OK" if ready() else "503 Service Unavailable"}
            line = status.get(path, "404 Not Found")
            writer.write(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, ConnectionError):
            return
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, PORT)
