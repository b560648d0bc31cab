"""A token bucket. Pure: who asks brings the clock."""

from dataclasses import dataclass
from typing import Final

_ROUNDING: Final = 1e-9
"""Whoever waits as long as told must not be refused for the last bit of a float."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """How much was left, and when (s)."""

    level: float
    at: float


def take(bucket: Bucket | None, rate: float, now: float) -> tuple[Bucket, float]:
    """Take one, at so many a second: the bucket afterwards, and 0, or how long to wait (s) as there is none left.

    ``bucket``: None at first. It holds what a second brings, but at least one.
    """
    most = max(1.0, rate)
    level = most if bucket is None else min(most, bucket.level + (now - bucket.at) * rate)
    if level >= 1 - _ROUNDING:
        return Bucket(max(0.0, level - 1), now), 0.0
    return Bucket(level, now), (1 - level) / rate
