"""Client-side rate limits against Daily's own counting."""

import asyncio
import heapq

from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.daily.limits import RateLimit
from pipecat_operator.limiter import SlidingWindows

WINDOWS = [(20, 1.0), (100, 5.0)]
A_HAIR = 1e-9
"""As a sleep takes more than it was told: floating point must not decide."""

spans = st.floats(0, 0.3)


@given(calls=st.lists(st.tuples(spans, spans, spans), min_size=1, max_size=400))
def test_no_call_that_waited_as_told_is_refused(calls):
    """However long each takes on its way there, and back."""
    now, arrivals, answers = 0.0, [], []
    mine = SlidingWindows(WINDOWS, clock=lambda: now)
    for gap, there, back in calls:
        wanted = now + gap
        while answers and (answers[0] <= wanted or mine.delay() > answers[0] - now):
            now = max(now, heapq.heappop(answers))
            mine.end()
        now = max(now, wanted)
        now += mine.delay() + A_HAIR
        mine.begin()
        arrivals.append(now + there)
        heapq.heappush(answers, now + there + back)
    arrivals.sort()
    at = iter(arrivals)
    theirs = RateLimit(WINDOWS, clock=lambda: next(at))
    assert all(theirs.take() for _ in arrivals)


def test_a_lonely_call_does_not_wait():
    assert SlidingWindows(WINDOWS, clock=lambda: 0.0).delay() == 0


async def test_who_is_in_no_hurry_lets_the_others_go_first():
    windows, went = SlidingWindows([(1, 0.01)]), []

    async def call(name: str, hurry: bool) -> None:
        async with windows.call(hurry):
            went.append(name)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(call("deletion", hurry=False))
            group.create_task(call(f"creation {number}", hurry=True))
    assert went[-2:] == ["deletion", "deletion"]
    assert sorted(went[:4]) == ["creation 0", "creation 1", "creation 2", "deletion"]
