"""The keyed queue."""

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipecat_operator.loop import BACKOFF_MAX_S, KeyedQueue, Retry, backoff


async def _worked(queue: KeyedQueue, until: asyncio.Event) -> None:
    running = asyncio.create_task(queue.run(workers=4))
    async with asyncio.timeout(10):
        await until.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_one_worker_at_a_time_works_on_a_key_and_nothing_told_meanwhile_is_lost():
    busy, most, calls, done = Counter(), Counter(), Counter(), asyncio.Event()

    async def work(key: str) -> None:
        busy[key] += 1
        most[key] = max(most[key], busy[key])
        calls[key] += 1
        if calls[key] == 1:
            queue.add(key)
        await asyncio.sleep(0)
        busy[key] -= 1
        if all(calls[k] >= 2 for k in "abc"):
            done.set()

    queue = KeyedQueue(work, lambda key, error: None)
    for key in "abcabc":
        queue.add(key)
    assert len(queue) == 3
    await _worked(queue, done)
    assert set(most.values()) == {1}
    assert set(calls.values()) == {2}


async def test_a_failure_is_told_and_tried_again():
    failures, done = [], asyncio.Event()

    async def work(key: str) -> None:
        if len(failures) < 2:
            raise Retry("not now")
        done.set()

    queue = KeyedQueue(work, lambda key, error: failures.append((key, str(error))))
    queue.add("a")
    await _worked(queue, done)
    assert failures == [("a", "not now")] * 2


async def test_a_deadline_of_the_works_own_is_kept_though_a_later_try_was_asked_for():
    calls, done = [], asyncio.Event()

    async def work(key: str) -> None:
        calls.append(key)
        if len(calls) == 1:
            raise Retry("not now", retry_after=60, within=0.01)
        done.set()

    queue = KeyedQueue(work, lambda key, error: None)
    queue.add("a")
    await _worked(queue, done)
    assert calls == ["a"] * 2


async def test_a_wake_up_comes_by_itself():
    calls, done = [], asyncio.Event()

    async def work(key: str) -> float | None:
        calls.append(key)
        if len(calls) == 3:
            done.set()
            return None
        return 0.01

    queue = KeyedQueue(work, lambda key, error: None)
    queue.add("a")
    await _worked(queue, done)
    assert calls == ["a"] * 3


async def test_a_wish_that_is_replaced_ten_thousand_times_is_kept_once():
    queue = KeyedQueue(lambda key: asyncio.sleep(0), lambda key, error: None)
    for number in range(10_000):
        queue.wake(f"{number % 10}", 1000)
    assert len(queue._heap) < 1000


@given(failures=st.integers(1, 10_000), after=st.none() | st.floats(0, 300), spread=st.floats(0, 0.999))
def test_backoff_is_bounded_and_honours_retry_after(failures, after, spread):
    delay = backoff(failures, after, spread)
    assert 0 < delay <= max(BACKOFF_MAX_S, after or 0)
    assert delay >= (after or 0)
