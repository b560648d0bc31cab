"""A flood of events is held back."""

from datetime import UTC, datetime, timedelta

from pipecat_local.node.events import Budget

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_burst_of_25_then_one_in_five_minutes() -> None:
    budget = Budget(T0)
    assert [budget.spend(T0) for _ in range(26)] == [True] * 25 + [False]
    assert not budget.spend(T0 + timedelta(seconds=299))
    assert budget.spend(T0 + timedelta(seconds=300))
    assert not budget.spend(T0 + timedelta(seconds=301))


def test_a_long_quiet_earns_no_more_than_a_burst() -> None:
    budget = Budget(T0)
    assert [budget.spend(T0 + timedelta(days=9)) for _ in range(26)] == [True] * 25 + [False]
