"""What the gateway remembers of Bots."""

from collections.abc import AsyncIterator

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipecat_gateway.sessions.watch import BOT_FRESH_S, Sessions
from pipecat_gateway.wire.errors import Problem
from pipecat_operator.kube import Kube


class Api:
    """An API server with one Bot, until it is deleted."""

    def __init__(self) -> None:
        self.asked = 0
        self.there = True
        self.now = 0.0

    async def serve(self, request: web.Request) -> web.Response:
        self.asked += 1
        if not self.there:
            return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
        name = request.path.rpartition("/")[2]
        metadata = {"name": name, "uid": f"u-{name}", "namespace": "ns", "creationTimestamp": "2026-11-27T00:00:00Z"}
        return web.json_response({"metadata": metadata})


@pytest.fixture
async def api() -> Api:
    """It."""
    return Api()


@pytest.fixture
async def sessions(api: Api) -> AsyncIterator[Sessions]:
    """Of its namespace."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.serve)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        async with Kube(lambda: kopf.ConnectionInfo(server=url)) as kube:
            yield Sessions(kube, "ns", now=lambda: api.now)


async def test_a_bot_that_was_there_a_moment_ago_is_not_asked_for_again(sessions: Sessions, api: Api):
    assert [(await sessions.bot(name)).uid for name in ("one", "two", "one")] == ["u-one", "u-two", "u-one"]
    assert api.asked == 2
    api.now = BOT_FRESH_S * 0.9
    await sessions.bot("one")
    assert api.asked == 2
    api.now = BOT_FRESH_S
    await sessions.bot("one")
    assert api.asked == 3


async def test_one_that_is_deleted_is_missed_soon_and_one_that_is_missing_is_looked_for_each_time(
    sessions: Sessions, api: Api
):
    await sessions.bot("one")
    api.there = False
    api.now = BOT_FRESH_S
    for asked in (2, 3):
        with pytest.raises(Problem) as caught:
            await sessions.bot("one")
        assert (caught.value.status, api.asked) == (404, asked)
    api.there = True
    assert (await sessions.bot("one")).uid == "u-one"
