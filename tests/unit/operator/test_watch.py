"""How often a reflector lists and watches, whatever it is answered."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pipecat_operator.kube import PODS, Expired, Kube, Object, Page, Refused, Unavailable
from pipecat_operator.watch import BACKOFF_MAX_S, SERVER_TIMEOUT_S, Reflector
from support.virtual_time import now, ran_for, virtual_time

EVENT: Object = {"type": "MODIFIED", "object": {"metadata": {"uid": "a", "resourceVersion": "2"}}}


async def ends_at_once() -> AsyncIterator[Object]:
    return
    yield EVENT


async def lasts() -> AsyncIterator[Object]:
    await asyncio.sleep(SERVER_TIMEOUT_S)
    return
    yield EVENT


def fails(error: Exception, *events: Object) -> Callable[[], AsyncIterator[Object]]:
    async def watch() -> AsyncIterator[Object]:
        for event in events:
            yield event
        raise error

    return watch


UNAVAILABLE = Unavailable(503, "ServiceUnavailable", "not now")
EXPIRED = Expired(410, "Expired", "too old")
REFUSED = Refused(403, "Forbidden", "you may not")


class Server:
    """Lists an empty list; watches as told, the last answer for ever. Keeps when it was asked for what."""

    def __init__(self, *watches: Callable[[], AsyncIterator[Object]]) -> None:
        self._watches = list(watches)
        self.lists: list[float] = []
        self.watched: list[float] = []

    async def pages(self, *_: Any) -> AsyncIterator[Page]:
        self.lists.append(now())
        yield Page([], "1")

    def watch(self, *_: Any) -> AsyncIterator[Object]:
        self.watched.append(now())
        return (self._watches.pop(0) if len(self._watches) > 1 else self._watches[0])()


async def followed(server: Server, seconds: float) -> None:
    kube: Kube = server  # type: ignore[assignment]
    await ran_for(seconds, Reflector(kube, PODS, [], lambda *_: None, lambda *_: None, clock=now).run())


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.mark.parametrize(
    "watch", [fails(UNAVAILABLE), fails(EXPIRED), fails(REFUSED), ends_at_once], ids=["503", "410", "403", "ended"]
)
@virtual_time
async def test_watches_that_are_of_no_use_are_asked_for_less_and_less_often(watch):
    server = Server(watch)
    await followed(server, 3600)
    assert 3600 / BACKOFF_MAX_S < len(server.watched) < 3600 / BACKOFF_MAX_S * 2 + 20
    assert min(pauses(server.watched)[10:]) >= BACKOFF_MAX_S / 2
    assert max(pauses(server.watched)) <= BACKOFF_MAX_S


@virtual_time
async def test_what_was_told_between_two_failures_shortens_the_pause():
    server = Server(fails(UNAVAILABLE, EVENT))
    await followed(server, 60)
    assert max(pauses(server.watched)) < 1
    assert min(pauses(server.watched)) > 0


@virtual_time
async def test_a_watch_that_expires_after_each_event_is_not_begun_without_a_pause():
    server = Server(fails(EXPIRED, EVENT))
    await followed(server, 60)
    assert len(server.lists) < 60 * 25


@virtual_time
async def test_a_long_watch_that_ends_is_followed_by_the_next_at_once_and_without_a_list():
    server = Server(lasts)
    await followed(server, 3 * SERVER_TIMEOUT_S + 1)
    assert server.lists == [0]
    assert server.watched == [0, SERVER_TIMEOUT_S, 2 * SERVER_TIMEOUT_S, 3 * SERVER_TIMEOUT_S]


@virtual_time
async def test_a_first_expiry_is_followed_by_a_list_at_once():
    server = Server(lasts, fails(EXPIRED), lasts)
    await followed(server, SERVER_TIMEOUT_S + 1)
    assert server.lists == [0, SERVER_TIMEOUT_S]
    assert server.watched == [0, SERVER_TIMEOUT_S, SERVER_TIMEOUT_S]


@virtual_time
async def test_a_long_watch_ends_the_pauses():
    server = Server(*[fails(UNAVAILABLE)] * 20, lasts, fails(UNAVAILABLE), lasts)
    await followed(server, 2 * SERVER_TIMEOUT_S)
    assert len(server.watched) == 23
    assert pauses(server.watched)[-1] <= 0.1


@pytest.mark.parametrize("kind", [Unavailable, Refused, Expired])
@virtual_time
async def test_retry_after_is_kept(kind):
    server = Server(fails(kind(429, "TooManyRequests", "later", retry_after=30)), lasts)
    await followed(server, 100)
    assert server.watched == [0, 30]
