"""A server in the test's own process, to whom every path is one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler


@asynccontextmanager
async def answering(serve: Handler) -> AsyncIterator[str]:
    """Its URL, for as long as it listens."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", serve)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")
