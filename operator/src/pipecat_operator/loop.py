"""The keyed queue: one worker at a time per key, failures backed off, wake-ups instead of timers."""

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from typing import Final

BACKOFF_FIRST_S: Final = 0.25
BACKOFF_MAX_S: Final = 15.0

SPARE: Final = 100
"""Wishes that were replaced stay in the heap until they outnumber the others by so many."""

Work = Callable[[str], Awaitable[float | None]]
"""Works on a key once; answers in how many seconds it wants to be called again, or None."""


class Retry(Exception):
    """Raised by the work: try this key again after ``retry_after`` at the earliest, within ``within`` at the latest.

    Both in seconds; ``within`` wins: the work has a deadline of its own to keep. ``call`` is what failed: another one
    than the last time means that the work got further.
    """

    def __init__(
        self, cause: str, retry_after: float | None = None, within: float | None = None, call: str = ""
    ) -> None:
        super().__init__(cause)
        self.retry_after = retry_after
        self.within = within
        self.call = call


def backoff(failures: int, after: float | None, spread: float) -> float:
    """Seconds to wait after so many failures in a row; ``spread`` in [0, 1) keeps keys apart. Pure."""
    delay = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16))
    return float(max(delay * (0.5 + spread / 2), after or 0.0))


class KeyedQueue:
    """Keys to work on. A key added while it is worked on is worked on once more afterwards."""

    def __init__(self, work: Work, on_failure: Callable[[str, Exception], None]) -> None:
        """``on_failure`` is told of every exception, before the key is tried again."""
        self._work = work
        self._on_failure = on_failure
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        """Those in the queue, and those to put there once their worker is done."""
        self._busy: set[str] = set()
        self._failures: dict[str, tuple[str, int]] = {}
        """What failed last, and how often in a row."""
        self._wake_at: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._sooner = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, key: str) -> None:
        """Work on this key as soon as a worker is free; twice before that is once."""
        if key not in self._waiting:
            self._waiting.add(key)
            if key not in self._busy:
                self._ready.put_nowait(key)

    def wake(self, key: str, delay: float) -> None:
        """Add the key in ``delay`` seconds; replaces an earlier wish."""
        at = asyncio.get_running_loop().time() + delay
        self._wake_at[key] = at
        if len(self._heap) > 2 * len(self._wake_at) + SPARE:
            self._heap = [(at, key) for key, at in self._wake_at.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (at, key))
        if self._heap[0] == (at, key):
            self._sooner.set()

    async def run(self, workers: int) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._wake_up())
            for _ in range(workers):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                await self._once(key)
            finally:
                self._busy.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)

    async def _once(self, key: str) -> None:
        try:
            again = await self._work(key)
        except Exception as error:
            self._on_failure(key, error)
            # Failed calls say which it was, and have the Retry-After that they were refused with.
            call: str = getattr(error, "call", "")
            after: float | None = getattr(error, "retry_after", None)
            last, times = self._failures.get(key, ("", 0))
            failures = times + 1 if call == last else 1
            self._failures[key] = (call, failures)
            within = error.within if isinstance(error, Retry) else None
            delay = backoff(failures, after, random.random())  # noqa: S311
            self.wake(key, delay if within is None else min(delay, within))
        else:
            self._failures.pop(key, None)
            if again is None:
                self._wake_at.pop(key, None)
            else:
                self.wake(key, again)

    async def _wake_up(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._sooner.clear()
            now = loop.time()
            while self._heap and self._heap[0][0] <= now:
                at, key = heapq.heappop(self._heap)
                if self._wake_at.get(key) == at:
                    del self._wake_at[key]
                    self.add(key)
            timeout = self._heap[0][0] - now if self._heap else None
            try:
                async with asyncio.timeout(timeout):
                    await self._sooner.wait()
            except TimeoutError:
                continue
