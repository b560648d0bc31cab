"""Events are listed for all who ask at once; and nobody waits long for a list."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web

from pipecat_operator import causes
from pipecat_operator.causes import PAUSE_MAX_S, PAUSE_S, SHARE, Causes, pause_s
from pipecat_operator.kube import Kube, Unavailable
from support.answering import answering


def event(uid: str, message: str, at: str = "2026-11-27T09:00:00Z") -> dict:
    return {"involvedObject": {"uid": uid}, "message": message, "lastTimestamp": at}


@dataclass
class Events:
    """An API server that has these; lists of namespace ns wait for ``answer``."""

    items: list[dict] = field(default_factory=list)
    status: int = 200
    lists: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, request: web.Request) -> web.Response:
        self.lists.append(f"{request.path}?{request.query['fieldSelector']}")
        self.asked.set()
        if "/ns/" in request.path:
            await self.answer.wait()
        return web.json_response({"items": self.items, "metadata": {}}, status=self.status)

    def of_ns(self) -> list[str]:
        return [path for path in self.lists if "/ns/" in path]


@pytest.fixture
async def events() -> Events:
    """None yet, told at once."""
    served = Events()
    served.answer.set()
    return served


@pytest.fixture
async def asked(events: Events, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Causes]:
    """Without a pause, of a client that waits as long as it takes."""
    monkeypatch.setattr(causes, "PAUSE_S", 0.0)
    monkeypatch.setattr(causes, "SHARE", 0.0)
    monkeypatch.setattr(causes, "WAIT_S", 60.0)
    async with answering(events.serve) as url, Kube(lambda: kopf.ConnectionInfo(server=url)) as kube:
        asked = Causes(kube)
        yield asked
        await asked.close()


async def test_a_thousand_ask_at_once_and_it_is_listed_once(events: Events, asked: Causes):
    events.items = [event(f"job-{number}", f"quota {number}") for number in range(0, 1000, 2)]
    told = await asyncio.gather(*(asked.about(f"job-{number}", "ns", "FailedCreate") for number in range(1000)))
    assert told == [None if number % 2 else f"quota {number}" for number in range(1000)]
    assert events.lists == ["/api/v1/namespaces/ns/events?reason=FailedCreate"]


async def test_who_asks_later_is_told_what_came_since(events: Events, asked: Causes):
    """The list that is on its way may have been read before it happened. One at a time."""
    events.answer.clear()
    first = asyncio.create_task(asked.about("job", "ns", "FailedCreate"))
    await events.asked.wait()
    second = asyncio.create_task(asked.about("job", "ns", "FailedCreate"))
    # By the time that another namespace's is answered, a second list would have come.
    assert await asked.about("job", "elsewhere", "FailedCreate") is None
    assert len(events.of_ns()) == 1
    events.answer.set()
    assert await first is None
    events.items.append(event("job", "quota"))
    assert await second == "quota"
    assert len(events.of_ns()) == 2


async def test_the_latest_counts(events: Events, asked: Causes):
    events.items = [event("job", "a"), event("job", "new", "2026-11-27T09:00:01Z"), event("job", "z")]
    assert await asked.about("job", "ns", "FailedCreate") == "new"


async def test_that_may_not_be_read_is_no_cause(events: Events, asked: Causes):
    events.status = 403
    assert await asked.about("job", "ns", "FailedCreate") is None


async def test_that_cannot_be_read_now_is_asked_again_or_known_already(events: Events, asked: Causes):
    """Else a session would end for want of time though its quota was at fault."""
    events.status = 500
    with pytest.raises(Unavailable):
        await asked.about("job", "ns", "FailedCreate")
    events.status = 200
    events.items = [event("job", "quota")]
    assert await asked.about("job", "ns", "FailedCreate") == "quota"
    events.status = 500
    assert await asked.about("job", "ns", "FailedCreate") == "quota"


async def test_nobody_waits_for_an_api_server_that_does_not_answer(
    events: Events, asked: Causes, monkeypatch: pytest.MonkeyPatch
):
    events.items = [event("job", "quota")]
    assert await asked.about("job", "ns", "FailedCreate") == "quota"
    monkeypatch.setattr(causes, "WAIT_S", 0.0)
    events.answer.clear()
    assert await asked.about("job", "ns", "FailedCreate") == "quota", "as it was known"
    with pytest.raises(Unavailable):
        await asked.about("job", "ns", "FailedMount")
    events.answer.set()


async def test_nobody_waits_for_a_turn_that_is_far_off(events: Events, asked: Causes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(causes, "PAUSE_S", 1e6)
    monkeypatch.setattr(causes, "PAUSE_MAX_S", 1e6)
    events.items = [event("job", "quota")]
    for _ in range(3):
        assert await asked.about("job", "ns", "FailedCreate") == "quota"
    assert len(events.lists) == 1


@pytest.mark.parametrize(("took_s", "pause"), [(0.0, PAUSE_S), (0.5, 0.5 * SHARE), (60.0, PAUSE_MAX_S)])
def test_a_list_that_takes_long_is_made_less_often(took_s: float, pause: float):
    assert pause_s(took_s) == pause
