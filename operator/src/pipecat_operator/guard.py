"""A former leader's requests that already waited for a connection when it was frozen."""

from collections.abc import Callable

import aiohttp


def asking_again(guard: Callable[[], None]) -> aiohttp.TraceConfig:
    """Have an aiohttp client call ``guard`` each time that a request has got its connection; it may raise."""
    trace = aiohttp.TraceConfig()

    async def ask(*_: object) -> None:
        guard()

    trace.on_connection_reuseconn.append(ask)
    trace.on_connection_create_end.append(ask)
    return trace
