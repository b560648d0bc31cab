"""Client-side rate limits in Daily's own terms: so many calls in any window of so many seconds."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence


class SlidingWindows:
    """At most ``calls`` begin within any ``seconds``, for each (calls, seconds) pair. Waiters go in order."""

    def __init__(self, windows: Sequence[tuple[int, float]], clock: Callable[[], float] = time.monotonic) -> None:
        self._windows = windows
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=max(calls for calls, _ in windows))
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Until one more call may begin; it counts as begun."""
        async with self._turn:
            while (delay := self.delay()) > 0:  # noqa: ASYNC110 - waits for the clock
                await asyncio.sleep(delay)
            self.begin()

    def begin(self) -> None:
        """Count a call as begun now."""
        self._begun.append(self._clock())

    def delay(self) -> float:
        """Seconds until one more call may begin."""
        now = self._clock()
        waits = [self._begun[-calls] + seconds - now for calls, seconds in self._windows if len(self._begun) >= calls]
        return max([0.0, *waits])
