"""Client-side rate limits against Daily's own counting."""

from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.daily.limits import RateLimit
from pipecat_operator.limiter import SlidingWindows

WINDOWS = [(20, 1.0), (100, 5.0)]


@given(gaps=st.lists(st.floats(0, 0.3), min_size=1, max_size=400))
def test_no_call_that_waited_as_told_is_refused(gaps):
    now = 0.0
    mine = SlidingWindows(WINDOWS, clock=lambda: now)
    theirs = RateLimit(WINDOWS, clock=lambda: now)
    for gap in gaps:
        now += gap
        # A hair more, as a sleep takes: floating point must not decide.
        now += mine.delay() + 1e-9
        mine.begin()
        assert theirs.take()


def test_a_lonely_call_does_not_wait():
    assert SlidingWindows(WINDOWS, clock=lambda: 0.0).delay() == 0
