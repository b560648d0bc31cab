"""Rooms are deleted one after the other, and none that was asked for is forgotten."""

import asyncio
from datetime import timedelta

import pytest

from pipecat_operator.daily import Daily, DailyRefused, DailyUnavailable
from pipecat_operator.rooms import RETRY_S, RoomDeleter
from support.objects import NOW
from support.virtual_time import now, ran_for, virtual_time

ANSWER_S = 10.0
UNAVAILABLE = DailyUnavailable("not now", "delete_room")
REFUSED = DailyRefused("you may not", "delete_room", 403)


class Rooms:
    """Daily, which takes its time and then answers as told, with success in the end. Keeps when it was asked."""

    def __init__(self, *answers: Exception | None) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[float, str]] = []

    async def delete_room(self, name: str) -> None:
        self.asked.append((now(), name))
        await asyncio.sleep(ANSWER_S)
        answer = self._answers.pop(0) if self._answers else None
        if answer:
            raise answer


def deleter(rooms: Rooms) -> RoomDeleter:
    daily: Daily = rooms  # type: ignore[assignment]
    return RoomDeleter(daily, lambda: NOW + timedelta(seconds=now()))


@virtual_time
async def test_a_room_that_is_asked_for_often_is_deleted_once():
    daily = Rooms()
    rooms = deleter(daily)
    for name in "aabab":
        rooms.delete(name, None)
    assert len(rooms) == 2
    await ran_for(100, rooms.run())
    assert daily.asked == [(0, "a"), (ANSWER_S, "b")]
    assert len(rooms) == 0


@pytest.mark.parametrize("answer", [None, REFUSED, UNAVAILABLE], ids=["deleted", "refused", "not now"])
@virtual_time
async def test_a_room_that_is_asked_for_while_its_deletion_is_on_its_way_is_deleted_again(answer):
    """It may have been made between that deletion and this request."""
    daily = Rooms(answer)
    rooms = deleter(daily)
    rooms.delete("a", None)
    asyncio.get_running_loop().call_later(ANSWER_S / 2, rooms.delete, "a", None)
    await ran_for(100, rooms.run())
    assert [name for _, name in daily.asked] == ["a", "a"]
    assert len(rooms) == 0


@virtual_time
async def test_what_a_newer_request_says_of_the_expiry_counts():
    daily = Rooms(UNAVAILABLE)
    rooms = deleter(daily)
    rooms.delete("a", NOW + timedelta(seconds=ANSWER_S))
    asyncio.get_running_loop().call_later(ANSWER_S / 2, rooms.delete, "a", NOW + timedelta(hours=1))
    await ran_for(100, rooms.run())
    assert [name for _, name in daily.asked] == ["a", "a"]


@virtual_time
async def test_a_failure_lets_the_others_go_first():
    daily = Rooms(UNAVAILABLE)
    rooms = deleter(daily)
    rooms.delete("a", None)
    rooms.delete("b", None)
    await ran_for(100, rooms.run())
    assert daily.asked == [(0, "a"), (ANSWER_S + RETRY_S, "b"), (2 * ANSWER_S + RETRY_S, "a")]


@virtual_time
async def test_retry_after_is_kept():
    daily = Rooms(DailyUnavailable("later", "delete_room", retry_after=30))
    rooms = deleter(daily)
    rooms.delete("a", None)
    await ran_for(100, rooms.run())
    assert daily.asked == [(0, "a"), (ANSWER_S + 30, "a")]


@virtual_time
async def test_a_room_that_may_not_be_deleted_is_left_to_expire():
    daily = Rooms(REFUSED)
    rooms = deleter(daily)
    rooms.delete("a", None)
    await ran_for(100, rooms.run())
    assert daily.asked == [(0, "a")]
    assert len(rooms) == 0


@virtual_time
async def test_a_room_that_has_expired_by_its_turn_is_not_asked_for():
    daily = Rooms()
    rooms = deleter(daily)
    rooms.delete("a", NOW + timedelta(seconds=1))
    rooms.delete("b", NOW + timedelta(seconds=ANSWER_S))
    await ran_for(100, rooms.run())
    assert daily.asked == [(0, "a")]
