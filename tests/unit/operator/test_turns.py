"""The event loop that asks whether it may go on."""

import asyncio
import contextlib
import selectors
import socket
from collections.abc import Iterator

import pytest

from pipecat_operator.turns import AskingSelector, event_loop


class Stopped(Exception):
    """The answer of who may not go on."""


@pytest.fixture
def selector() -> AskingSelector:
    return AskingSelector()


@pytest.fixture
def loop(selector: AskingSelector) -> Iterator[asyncio.AbstractEventLoop]:
    with contextlib.closing(event_loop(selector)) as loop:
        yield loop


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_it_asks_before_anything_that_waited_is_run(selector, loop, connection):
    ours, theirs = connection
    done = []

    def ask() -> None:
        raise Stopped

    selector.ask = ask
    loop.add_reader(ours, lambda: done.append("what came"))
    theirs.send(b"!")
    loop.call_later(0, lambda: done.append("a timer"))
    loop.call_later(1, loop.stop)
    with pytest.raises(Stopped):
        loop.run_forever()
    assert done == []


def test_it_asks_when_it_is_waked_and_not_when_it_goes_to_sleep(selector, connection):
    """Whatever happened while it slept must count."""
    ours, theirs = connection
    selector.register(ours, selectors.EVENT_READ)
    theirs.send(b"!")
    # Asked before, it would leave nothing to be waked by.
    selector.ask = lambda: ours.recv(1)
    with contextlib.closing(selector):
        assert [key.fileobj for key, _ in selector.select(0)] == [ours]
