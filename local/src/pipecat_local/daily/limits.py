"""Daily's rate limits, as a server counts them. Pure but for the clock passed in."""

from collections import deque
from collections.abc import Callable, Sequence


class RateLimit:
    """At most ``calls`` within any ``seconds``, for each (calls, seconds) pair."""

    def __init__(self, windows: Sequence[tuple[int, float]], clock: Callable[[], float]) -> None:
        self._windows = windows
        self._clock = clock
        self._taken: deque[float] = deque(maxlen=max(calls for calls, _ in windows))

    def take(self) -> bool:
        """Whether one more call is allowed now; it counts if so."""
        now = self._clock()
        for calls, seconds in self._windows:
            if len(self._taken) >= calls and now - self._taken[-calls] < seconds:
                return False
        self._taken.append(now)
        return True
