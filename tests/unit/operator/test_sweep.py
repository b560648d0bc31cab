"""Which rooms are orphans, and how often what is listed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_operator.cache import Cache
from pipecat_operator.daily import DailyRefused, DailyUnavailable, Room
from pipecat_operator.kube import SESSIONS, Object, Page, Refused, Resource, Unavailable
from pipecat_operator.lease import LeadershipLost
from pipecat_operator.sweep import ORPHAN_AGE, SessionLister, orphans, resync, sweep
from support.objects import NOW
from support.virtual_time import now, ran_for, virtual_time

A, B = "0b6f0f6e-7a8e-4f0e-9d39-4b6f5a1f0c11", "1c7a1a7f-8b9f-4a1f-8e4a-5c7a6b2a1d22"


def room(name, age=ORPHAN_AGE):
    return Room(name, f"https://x/{name}", NOW - age, None)


def test_an_old_room_without_a_session_is_one():
    assert [r.name for r in orphans([room(f"pc-1-{A}"), room(f"pc-1-{B}")], {B: False}, "pc-1", NOW)] == [f"pc-1-{A}"]


def test_a_young_one_may_yet_have_a_session():
    young = room(f"pc-1-{A}", ORPHAN_AGE - timedelta(seconds=1))
    assert orphans([young], {}, "pc-1", NOW) == []


def test_that_of_an_ended_session_is_one_at_any_age():
    rooms = [room(f"pc-1-{A}", timedelta(0)), room(f"pc-1-{B}", timedelta(0))]
    assert [r.name for r in orphans(rooms, {A: True, B: False}, "pc-1", NOW)] == [f"pc-1-{A}"]


@given(name=st.text(alphabet="abc-123", max_size=20))
def test_rooms_of_people_are_never_touched(name):
    assert orphans([room(f"pc-1-{name}")], {}, "pc-1", NOW) == []


@pytest.mark.parametrize("other", ["pc", "pc-1-2", "pc-11", "x-pc-1"])
def test_rooms_of_another_installation_are_never_touched(other):
    assert orphans([room(f"{other}-{A}")], {}, "pc-1", NOW) == []
    assert orphans([room(f"pc-1-{A}")], {}, other, NOW) == []


SESSION: Object = {"metadata": {"uid": A, "name": "a", "namespace": "n", "resourceVersion": "1"}}
UNAVAILABLE = Unavailable(503, "ServiceUnavailable", "not now")
REFUSED = Refused(403, "Forbidden", "you may not")


class Server:
    """Answers as told, the last answer for ever: an error, or BotSessions. Keeps when these were asked for."""

    def __init__(self, *answers: Exception | list[Object], takes_s: float = 0) -> None:
        self._answers = list(answers)
        self._takes_s = takes_s
        self.asked: list[float] = []

    async def pages(self, resource: Resource, namespace: str | None) -> AsyncIterator[Page]:
        if resource is SESSIONS:
            self.asked.append(now())
            await asyncio.sleep(self._takes_s)
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if isinstance(answer, Exception):
                raise answer
            yield Page(answer, "1")
        else:
            yield Page([], "1")


class Rooms:
    """Daily, with these rooms, and who deletes them."""

    def __init__(self, *answers: Exception | list[Room]) -> None:
        self._answers = list(answers)
        self.asked: list[float] = []
        self.deleted: list[str] = []

    async def rooms(self) -> list[Room]:
        self.asked.append(now())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def delete(self, name: str, _: datetime | None) -> None:
        self.deleted.append(name)


async def swept(rooms: Rooms, server: Server, seconds: float, every_s: float = 600) -> None:
    lister = SessionLister(server, [])
    await ran_for(seconds, sweep(rooms, lister, rooms, "pc-1", every_s, lambda: NOW))


async def resynced(server: Server, seconds: float, *missed_at: float, every_s: float = 300) -> list[str]:
    missed, changed = asyncio.Event(), []
    for at in missed_at:
        asyncio.get_running_loop().call_later(at, missed.set)
    cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    await ran_for(seconds, resync(SessionLister(server, []), cache, every_s, missed, changed.append))
    return changed


@pytest.mark.parametrize(
    ("rooms", "sessions"),
    [(DailyRefused("no such key", "list_rooms", 401), []), ([], REFUSED)],
    ids=["by Daily", "by Kubernetes"],
)
@virtual_time
async def test_a_sweep_that_was_refused_waits_for_the_next_one(rooms, sessions):
    daily = Rooms(rooms)
    await swept(daily, Server(sessions), 1300)
    assert daily.asked == [0, 600, 1200]


@pytest.mark.parametrize(
    ("rooms", "sessions"),
    [
        (DailyUnavailable("not now", "list_rooms"), []),
        ([], UNAVAILABLE),
        (KeyError("created_at"), []),
        ([Room(f"pc-1-{A}", "", NOW.replace(tzinfo=None), None)], []),
        ([], [{"metadata": {}}]),
    ],
    ids=["Daily is down", "Kubernetes is down", "an odd room", "a time without a zone", "an odd session"],
)
@virtual_time
async def test_a_sweep_that_failed_is_tried_again_soon_and_then_less_and_less_often(rooms, sessions):
    daily = Rooms(rooms)
    await swept(daily, Server(sessions), 1300)
    assert daily.asked == [0, 5, 15, 35, 75, 155, 315, 635, 1235]


@virtual_time
async def test_a_sweep_that_failed_once_is_made_up_for():
    daily = Rooms(DailyUnavailable("not now", "list_rooms"), [room(f"pc-1-{A}")], DailyUnavailable("", ""), [])
    await swept(daily, Server([]), 700)
    assert daily.asked == [0, 5, 605, 610]
    assert daily.deleted == [f"pc-1-{A}"]


@virtual_time
async def test_retry_after_is_kept_by_the_sweep():
    daily = Rooms(DailyUnavailable("later", "list_rooms", retry_after=60), [])
    await swept(daily, Server([]), 100)
    assert daily.asked == [0, 60]


@pytest.mark.parametrize("status", [None, {}, {"phase": "Running"}, {"phase": "Paused"}, {"phase": ["Failed"]}])
@virtual_time
async def test_a_phase_that_is_not_known_has_not_ended(status):
    server = Server([{**SESSION, "status": status}])
    assert await SessionLister(server, []).ended() == {A: False}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
@virtual_time
async def test_a_finished_phase_has_ended(phase):
    server = Server([{**SESSION, "status": {"phase": phase}}])
    assert await SessionLister(server, []).ended() == {A: True}


@virtual_time
async def test_everything_is_listed_again_and_again():
    server = Server([])
    await resynced(server, 1000)
    assert server.asked == [300, 600, 900]


@virtual_time
async def test_what_was_missed_is_listed_at_once():
    server = Server([])
    await resynced(server, 200, 100)
    assert server.asked == [100]


@virtual_time
async def test_what_is_missed_again_and_again_is_listed_now_and_then_and_never_forgotten():
    server = Server([], takes_s=2)
    await resynced(server, 40, *[at / 10 for at in range(100, 200)])
    assert server.asked == [10, 17, 24]


@virtual_time
async def test_a_resync_that_failed_is_tried_again():
    server = Server(UNAVAILABLE, [])
    await resynced(server, 320)
    assert server.asked == [300, 305]


@virtual_time
async def test_an_odd_answer_does_not_end_the_resync():
    server = Server([{"metadata": {}}], [])
    await resynced(server, 700)
    assert server.asked == [300, 600]


@pytest.mark.parametrize("run", [resynced, lambda server, seconds: swept(Rooms([]), server, seconds)])
@virtual_time
async def test_a_leader_that_is_none_any_more_ends(run):
    with pytest.raises(LeadershipLost):
        await run(Server(LeadershipLost("lost")), 700)
