"""Client-side rate limits in Daily's own terms: so many calls in any window of so many seconds."""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence


class SlidingWindows:
    """At most ``calls`` within any ``seconds``, for each (calls, seconds) pair, however the other side counts them.

    A call may reach it at any moment until it is answered: so it counts from its beginning until ``seconds`` after its
    answer. Waiters go in order.
    """

    def __init__(self, windows: Sequence[tuple[int, float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._windows = windows
        self._clock = clock
        self._running = 0
        self._ended: deque[float] = deque(maxlen=max(calls for calls, _ in windows))
        self._turn = asyncio.Lock()
        self._in_a_hurry = 0
        self._moved = asyncio.Event()

    @contextlib.asynccontextmanager
    async def call(self, hurry: bool = True) -> AsyncIterator[None]:
        """Wait until one more call may begin; it lasts as long as the block. Without ``hurry``: when no other waits."""
        await (self._until_free() if hurry else self._until_idle())
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """Count a call as begun."""
        self._running += 1

    def end(self) -> None:
        """Count a call that had begun as answered now."""
        self._running -= 1
        self._ended.append(self._clock())
        self._moved.set()

    def delay(self) -> float:
        """Seconds until one more call may begin; infinite: until one is answered."""
        now, delay = self._clock(), 0.0
        for calls, seconds in self._windows:
            free = calls - self._running
            if free <= 0:
                return math.inf
            if len(self._ended) >= free:
                delay = max(delay, self._ended[-free] + seconds - now)
        return delay

    async def _until_free(self) -> None:
        self._in_a_hurry += 1
        try:
            async with self._turn:
                while (delay := self.delay()) > 0:
                    await self._pause(delay)
        finally:
            self._in_a_hurry -= 1
            self._moved.set()

    async def _until_idle(self) -> None:
        while (delay := math.inf if self._in_a_hurry else self.delay()) > 0:
            await self._pause(delay)

    async def _pause(self, delay: float) -> None:
        """That long, or until something has changed."""
        self._moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if delay == math.inf else delay):
                await self._moved.wait()
