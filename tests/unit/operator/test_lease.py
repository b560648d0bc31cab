"""The rules of one leader: who may take the Lease when, and when leadership ends."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterator

import pytest
from loguru import logger

from pipecat_operator.kube import AlreadyExists, Conflict, Kube, NotFound, Object, Resource, Unavailable
from pipecat_operator.lease import LEASE_S, RENEW_DEADLINE_S, RENEW_TRY_S, RETRY_S, TRY_S, LeadershipLost, Lease
from support.virtual_time import now, virtual_time

ME, OTHER = "me", "other"
UNAVAILABLE = Unavailable(503, "ServiceUnavailable", "not now")
CONFLICT = Conflict(409, "Conflict", "changed meanwhile")
HANGS = "hangs"


class Server:
    """Stores one Lease. ``trouble`` is met by each call until it is None; keeps when it was written."""

    def __init__(self, spec: Object | None = None) -> None:
        self.spec = spec
        self.version = 1
        self.trouble: Exception | str | None = None
        self.takes_s = 0.0
        self.asked: list[float] = []
        self.written: list[float] = []

    async def _met(self) -> None:
        self.asked.append(now())
        await asyncio.sleep(self.takes_s)
        if self.trouble == HANGS:
            await asyncio.Event().wait()
        if isinstance(self.trouble, Exception):
            raise self.trouble

    def _write(self, body: Object) -> Object:
        self.spec, self.version = copy.deepcopy(body["spec"]), self.version + 1
        self.written.append(now())
        return self._stored()

    def _stored(self) -> Object:
        return {"metadata": {"resourceVersion": self.version}, "spec": copy.deepcopy(self.spec)}

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        await self._met()
        if self.spec is None:
            raise NotFound(404, "NotFound", "no such Lease")
        return self._stored()

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        if self.spec is not None:
            raise AlreadyExists(409, "AlreadyExists", "it is there")
        return self._write(body)

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object:
        await self._met()
        if body["metadata"]["resourceVersion"] != self.version:
            raise CONFLICT
        return self._write(body)

    def renewed_by(self, holder: str) -> None:
        """As another operator does it, at a time of its own clock's."""
        assert self.spec
        self._write({"spec": self.spec | {"holderIdentity": holder, "renewTime": f"1999-{self.version}"}})


def held_by(holder: str, renew_time: str = "1999", seconds: int = LEASE_S) -> Object:
    return {
        "holderIdentity": holder,
        "renewTime": renew_time,
        "leaseDurationSeconds": seconds,
        "acquireTime": "1999",
        "leaseTransitions": 3,
    }


def lease(server: Server) -> Lease:
    kube: Kube = server  # type: ignore[assignment]
    return Lease(kube, "default", "lease", ME, clock=now)


async def led(server: Server) -> Lease:
    """One that leads since now."""
    mine = lease(server)
    await mine.acquire()
    return mine


async def lost(holding: Awaitable[None]) -> str:
    """Why, once it is."""
    with pytest.raises(LeadershipLost) as caught:
        await asyncio.wait_for(holding, 10 * LEASE_S)
    return str(caught.value)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)))
    yield lines
    logger.remove(sink)


@pytest.mark.parametrize(
    ("spec", "transitions"),
    [(None, 1), (held_by(""), 4), (held_by(ME), 3), ({}, 1)],
    ids=["none is there", "released", "our own", "empty"],
)
@virtual_time
async def test_a_lease_that_nobody_else_holds_is_taken_at_once(spec, transitions):
    server = Server(spec)
    mine = await led(server)
    mine.check()
    assert server.written == [0]
    assert server.spec
    assert (server.spec["holderIdentity"], server.spec["leaseDurationSeconds"]) == (ME, LEASE_S)
    assert server.spec["leaseTransitions"] == transitions


@virtual_time
async def test_who_has_not_taken_it_may_write_nothing():
    with pytest.raises(LeadershipLost):
        lease(Server()).check()


@pytest.mark.parametrize("renew_time", ["1999", "2999", None], ids=["behind", "ahead", "none"])
@pytest.mark.parametrize("seconds", [LEASE_S, 40])
@virtual_time
async def test_anothers_is_taken_once_it_was_not_renewed_for_its_duration_on_our_own_clock(renew_time, seconds):
    server = Server(held_by(OTHER, renew_time, seconds))
    await led(server)
    assert server.written == [seconds]


@virtual_time
async def test_anothers_is_not_taken_while_it_is_renewed():
    server = Server(held_by(OTHER))
    for at in range(5, 65, 10):
        asyncio.get_running_loop().call_later(at, server.renewed_by, OTHER)
    mine = await led(server)
    mine.check()
    # Seen with the next try: up to that much later.
    assert 55 + LEASE_S <= now() <= 55 + LEASE_S + RETRY_S
    assert server.spec
    assert server.spec["holderIdentity"] == ME


@virtual_time
async def test_it_is_renewed_again_and_again():
    server = Server()
    mine = await led(server)
    holding = asyncio.ensure_future(mine.hold())
    await asyncio.wait((holding,), timeout=61)
    mine.check()
    assert server.written == [0, *[RETRY_S * turn for turn in range(1, 31)]]
    holding.cancel()


@pytest.mark.parametrize("trouble", [CONFLICT, UNAVAILABLE, HANGS], ids=["conflict", "down", "silent"])
@virtual_time
async def test_trouble_shorter_than_the_deadline_does_not_end_leadership(trouble):
    server = Server()
    mine = await led(server)
    server.trouble = trouble
    holding = asyncio.ensure_future(mine.hold())
    asyncio.get_running_loop().call_later(RENEW_DEADLINE_S - TRY_S - 2 * RETRY_S, setattr, server, "trouble", None)
    await asyncio.wait((holding,), timeout=60)
    assert not holding.done()
    mine.check()
    holding.cancel()


@pytest.mark.parametrize("trouble", [CONFLICT, UNAVAILABLE, HANGS], ids=["conflict", "down", "silent"])
@virtual_time
async def test_it_is_given_up_when_it_could_not_be_renewed_in_time(trouble):
    server = Server()
    mine = await led(server)
    server.trouble = trouble
    assert "not renewed" in await lost(mine.hold())
    # Well before another may take it.
    assert RENEW_DEADLINE_S < now() < LEASE_S
    assert mine.overdue


@virtual_time
async def test_it_is_overdue_by_itself_and_by_the_time_before_the_renewal_was_sent():
    server = Server()
    mine = await led(server)
    assert not mine.overdue
    await asyncio.sleep(RENEW_DEADLINE_S)
    mine.check()
    await asyncio.sleep(0.1)
    assert mine.overdue
    with pytest.raises(LeadershipLost):
        mine.check()


@virtual_time
async def test_another_holder_ends_it_at_once():
    server = Server()
    mine = await led(server)
    server.renewed_by(OTHER)
    assert "another" in await lost(mine.hold())
    assert now() == RETRY_S
    with pytest.raises(LeadershipLost):
        mine.check()


@virtual_time
async def test_a_silent_connection_costs_one_try(logged):
    """Of who waits for the Lease, and of who holds it."""
    server = Server()
    server.trouble = HANGS
    asyncio.get_running_loop().call_later(1, setattr, server, "trouble", None)
    mine = await led(server)
    assert now() == TRY_S + RETRY_S
    server.trouble = HANGS
    asyncio.get_running_loop().call_later(RETRY_S + 1, setattr, server, "trouble", None)
    holding = asyncio.ensure_future(mine.hold())
    await asyncio.wait((holding,), timeout=RETRY_S + RENEW_TRY_S + 1)
    assert server.written == [TRY_S + RETRY_S, TRY_S + RETRY_S + RETRY_S + RENEW_TRY_S]
    assert len([line for line in logged if "no answer within" in line]) == 2
    holding.cancel()


@virtual_time
async def test_an_api_server_that_takes_its_time_ends_no_leadership():
    server = Server()
    mine = await led(server)
    server.takes_s = RENEW_TRY_S - 0.5
    holding = asyncio.ensure_future(mine.hold())
    await asyncio.wait((holding,), timeout=120)
    assert not holding.done()
    mine.check()
    holding.cancel()


@virtual_time
async def test_a_released_one_is_free_at_once():
    server = Server()
    mine = await led(server)
    await mine.release()
    assert server.spec
    assert (server.spec["holderIdentity"], server.spec["leaseDurationSeconds"]) == ("", 1)
    with pytest.raises(LeadershipLost):
        mine.check()


async def _never_taken(server: Server) -> Lease:
    return lease(server)


async def _overdue(server: Server) -> Lease:
    mine = await led(server)
    await asyncio.sleep(RENEW_DEADLINE_S + 1)
    return mine


async def _taken_by_another(server: Server) -> Lease:
    mine = await led(server)
    server.renewed_by(OTHER)
    return mine


@pytest.mark.parametrize("before", [_never_taken, _overdue, _taken_by_another])
@virtual_time
async def test_only_ours_is_released(before: Callable[[Server], Awaitable[Lease]]):
    server = Server(held_by(ME))
    mine = await before(server)
    spec, writes = server.spec, len(server.written)
    await mine.release()
    assert (server.spec, len(server.written)) == (spec, writes)


@pytest.mark.parametrize("trouble", [CONFLICT, UNAVAILABLE, HANGS], ids=["conflict", "down", "silent"])
@virtual_time
async def test_a_release_that_fails_is_told_and_not_waited_for(trouble, logged):
    server = Server()
    mine = await led(server)
    server.trouble = trouble
    await mine.release()
    assert now() <= TRY_S
    assert any("run out by itself" in line for line in logged)
