"""Which rooms are orphans."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_operator.daily import Room
from pipecat_operator.sweep import ORPHAN_AGE, orphans
from support.objects import NOW

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
