"""What the gateway remembers of Bots, and where it reads tokens."""

import base64
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import kopf
import pytest
from aiohttp import web

from pipecat_gateway.sessions.views import Session
from pipecat_gateway.sessions.watch import BOT_FRESH_S, Sessions
from pipecat_gateway.wire.errors import Problem
from pipecat_operator.kube import Kube
from support.answering import answering


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
    async with answering(api.serve) as url, Kube(lambda: kopf.ConnectionInfo(server=url)) as kube:
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


class Secrets:
    """An API server with one Secret, of which its cache may not have heard yet."""

    def __init__(self, there: Sequence[str]) -> None:
        """``there``: where it is found."""
        self.there = there
        self.asked: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append("cache" if request.query.get("resourceVersion") == "0" else "etcd")
        if self.asked[-1] not in self.there:
            return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
        return web.json_response({"data": {"userToken": base64.b64encode(b"let me in").decode()}})


async def token_of(secrets: Secrets) -> str:
    """What the gateway reads."""
    session = Session(uid="u", name="s", bot="b", created_at=datetime.now(UTC))
    async with answering(secrets.serve) as url, Kube(lambda: kopf.ConnectionInfo(server=url)) as kube:
        return await Sessions(kube, "ns").user_token(session)


@pytest.mark.parametrize(("there", "asked"), [(["cache"], ["cache"]), (["etcd"], ["cache", "etcd"])])
async def test_a_token_is_read_from_the_cache_of_the_api_server_if_that_has_it(there: list[str], asked: list[str]):
    secrets = Secrets(there)
    assert await token_of(secrets) == "let me in"
    assert secrets.asked == asked


async def test_a_token_that_is_nowhere():
    with pytest.raises(Problem) as caught:
        await token_of(Secrets([]))
    assert (caught.value.status, caught.value.code) == (502, "no_token")
