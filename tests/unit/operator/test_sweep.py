"""Which rooms are orphans."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipecat_operator.daily import Room
from pipecat_operator.sweep import ORPHAN_AGE, orphans
from support.objects import NOW


def room(name, age=ORPHAN_AGE):
    return Room(name, f"https://x/{name}", NOW - age, None)


def session(uid, phase=None):
    return {"metadata": {"uid": uid}, "status": {"phase": phase} if phase else {}}


def test_an_old_room_without_a_session_is_one():
    assert [r.name for r in orphans([room("pc-1-a"), room("pc-1-b")], [session("b")], "pc-1", NOW)] == ["pc-1-a"]


def test_a_young_one_may_yet_have_a_session():
    young = room("pc-1-a", ORPHAN_AGE - timedelta(seconds=1))
    assert orphans([young], [], "pc-1", NOW) == []


def test_that_of_an_ended_session_is_one_at_any_age():
    rooms = [room("pc-1-a", timedelta(0)), room("pc-1-b", timedelta(0))]
    sessions = [session("a", "Succeeded"), session("b", "Running")]
    assert [r.name for r in orphans(rooms, sessions, "pc-1", NOW)] == ["pc-1-a"]


@given(name=st.text(alphabet="abc-123", max_size=20))
def test_rooms_of_others_are_never_touched(name):
    if not name.startswith("pc-1-"):
        assert orphans([room(name)], [], "pc-1", NOW) == []
