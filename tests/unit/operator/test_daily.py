"""Daily's own time, as its answers tell it."""

from datetime import UTC, datetime

import pytest

from pipecat_operator.daily import clock_ahead

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Wed, 25 Nov 2026 12:00:00 GMT", 0),
        ("Wed, 25 Nov 2026 13:00:00 GMT", 3600),
        ("Wed, 25 Nov 2026 11:59:00 GMT", -60),
        ("yesterday", None),
        (None, None),
    ],
)
def test_how_far_daily_is_ahead(date: str | None, ahead: float | None):
    assert clock_ahead(date, NOW) == ahead
