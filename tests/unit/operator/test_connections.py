"""No connection outlives its client."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from pipecat_local import certificates
from pipecat_operator.connections import Connector

WATCH = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The URL of a TLS server whose one watch goes on and which says no goodbye."""
    cert, key = certificates.server(certificates.authority(), tmp_path, "silent")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def serve() -> None:
            accepted, _ = server.accept()
            accepted.settimeout(30)
            with context.wrap_socket(accepted, server_side=True) as connection:
                connection.recv(65536)
                connection.sendall(WATCH)
                over.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        thread.join()


def test_a_watch_that_was_left_is_closed_with_its_client(silent: str):
    async def watch() -> None:
        async with aiohttp.ClientSession(connector=Connector(ssl=False)) as http, http.get(silent) as answer:
            assert await answer.content.readany() == b"a"

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(watch())
        gc.collect()
    assert [str(each.message) for each in told] == []
