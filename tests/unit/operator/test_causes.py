"""Events are listed for all who ask at once; and nobody waits long for a list."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pipecat_operator import causes
from pipecat_operator.causes import Causes
from pipecat_operator.kube import Kube


def event(uid: str, message: str, at: str = "2026-11-27T09:00:00Z") -> dict:
    return {"involvedObject": {"uid": uid}, "message": message, "lastTimestamp": at}


@dataclass
class Events:
    """An API server that has these."""

    items: list[dict] = field(default_factory=list)
    status: int = 200
    lists: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.Response:
        self.lists.append(f"{request.path}?{request.query['fieldSelector']}")
        self.asked.set()
        await self.answer.wait()
        return web.json_response({"items": self.items, "metadata": {}}, status=self.status)


@pytest.fixture
async def events() -> Events:
    """None yet, told at once."""
    served = Events()
    served.answer.set()
    return served


@pytest.fixture
async def asked(events: Events, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Causes]:
    """Of a client without a pause."""
    monkeypatch.setattr(causes, "PAUSE_S", 0.0)
    application = web.Application()
    application.router.add_get("/{path:.*}", events.serve)
    async with (
        TestServer(application) as server,
        Kube(lambda: kopf.ConnectionInfo(server=str(server.make_url("")).rstrip("/"))) as kube,
    ):
        yield Causes(kube)


async def test_a_thousand_ask_at_once_and_it_is_listed_once(events: Events, asked: Causes):
    events.items = [event(f"job-{number}", f"quota {number}") for number in range(0, 1000, 2)]
    told = await asyncio.gather(*(asked.about(f"job-{number}", "ns", "FailedCreate") for number in range(1000)))
    assert told == [None if number % 2 else f"quota {number}" for number in range(1000)]
    assert events.lists == ["/api/v1/namespaces/ns/events?reason=FailedCreate"]


async def test_who_asks_later_is_told_what_came_since(events: Events, asked: Causes):
    """The list that is on its way may have been read before it happened."""
    events.answer.clear()
    first = asyncio.create_task(asked.about("job", "ns", "FailedCreate"))
    await events.asked.wait()
    second = asyncio.create_task(asked.about("job", "ns", "FailedCreate"))
    # On another path, so that a second list would have come by now.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await asked.about("job", "elsewhere", "FailedCreate")
    assert [path for path in events.lists if "/ns/" in path] == events.lists[:1], "one at a time"
    events.answer.set()
    assert await first is None
    events.items.append(event("job", "quota"))
    assert await second == "quota"
    assert len([path for path in events.lists if "/ns/" in path]) == 2


async def test_the_latest_counts(events: Events, asked: Causes):
    events.items = [event("job", "new", "2026-11-27T09:00:01Z"), event("job", "old")]
    assert await asked.about("job", "ns", "FailedCreate") == "new"


@pytest.mark.parametrize("status", [403, 500])
async def test_that_cannot_be_read_is_no_cause(events: Events, asked: Causes, status: int):
    events.status = status
    assert await asked.about("job", "ns", "FailedCreate") is None


async def test_nobody_waits_for_an_api_server_that_does_not_answer(
    events: Events, asked: Causes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(causes, "WAIT_S", 0.0)
    events.answer.clear()
    assert await asked.about("job", "ns", "FailedCreate") is None
    events.answer.set()
