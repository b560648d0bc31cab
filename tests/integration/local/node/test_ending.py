"""How pods end, and what their status says of it."""

from typing import Any


def test_exit_0_succeeds(pods: Any) -> None:
    ended = pods.until_ended(pods.run("exit 0"))
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert ended["startedAt"] <= ended["finishedAt"]
    assert "signal" not in ended
