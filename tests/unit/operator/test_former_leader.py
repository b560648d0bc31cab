"""A request that waited for its connection while leadership was lost is not sent."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import kopf
import pytest
from aiohttp import web

from pipecat_operator.daily import Daily
from pipecat_operator.kube import BOTS, Kube
from pipecat_operator.lease import LeadershipLost
from pipecat_operator.metrics import Metrics
from pipecat_operator.settings import load
from support.answering import answering


@dataclass
class Leader:
    """Until it is none."""

    leads: bool = True

    def check(self) -> None:
        if not self.leads:
            raise LeadershipLost("frozen")


@dataclass
class Slow:
    """A server that keeps its first caller waiting until told."""

    answer: asyncio.Event = field(default_factory=asyncio.Event)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    calls: int = 0

    async def serve(self, _: web.Request) -> web.Response:
        self.calls += 1
        self.first.set()
        await self.answer.wait()
        return web.json_response({})


@pytest.fixture
async def slow() -> Slow:
    """It."""
    return Slow()


@pytest.fixture
async def url(slow: Slow) -> AsyncIterator[str]:
    """Where it listens."""
    async with answering(slow.serve) as url:
        yield url


async def test_one_that_waits_for_another_to_give_its_connection_back(slow: Slow, url: str):
    leader = Leader()
    async with Kube(lambda: kopf.ConnectionInfo(server=url), leader.check, connections=1) as kube:
        sent = asyncio.create_task(kube.get(BOTS, "ns", "first"))
        await slow.first.wait()
        waiting = [asyncio.create_task(kube.get(BOTS, "ns", f"{number}")) for number in range(3)]
        # Each runs until it waits for the one connection.
        await asyncio.sleep(0)
        leader.leads = False
        slow.answer.set()
        assert await sent == {}
        assert [type(lost) for lost in await asyncio.gather(*waiting, return_exceptions=True)] == [LeadershipLost] * 3
    assert slow.calls == 1


async def test_one_that_waits_for_its_own_connection(slow: Slow, url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DAILY_API_KEY", "key")
    monkeypatch.setenv("DAILY_API_URL", url)
    leader = Leader()
    daily = Daily(load(), Metrics(), leader.check)
    waiting = asyncio.create_task(daily.delete_room("r"))
    # It runs until it waits to be connected.
    await asyncio.sleep(0)
    leader.leads = False
    slow.answer.set()
    with pytest.raises(LeadershipLost):
        await waiting
    await daily.close()
    assert slow.calls == 0
