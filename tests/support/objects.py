"""Sessions, Bots, Jobs and Pods as a cluster would show them, for rules that need no cluster."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipecat_operator.api import Bot, BotSession, resolve_limits
from pipecat_operator.observe import JobView, Observed, PodView

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
UID = "0b6f0f6e-7a8e-4f0e-9d39-4b6f5a1f0c11"


def session(status: dict[str, Any] | None = None, age_s: float = 1, **spec: Any) -> BotSession:
    """A BotSession made ``age_s`` ago."""
    return BotSession.model_validate(
        {
            "metadata": {
                "name": "hello",
                "namespace": "default",
                "uid": UID,
                "generation": 1,
                "resourceVersion": "7",
                "creationTimestamp": NOW - timedelta(seconds=age_s),
            },
            "spec": {"botRef": {"name": "assistant"}, **spec},
            "status": status or {},
        }
    )


def bot(**spec: Any) -> Bot:
    """A Bot."""
    return Bot.model_validate(
        {
            "metadata": {
                "name": "assistant",
                "namespace": "default",
                "uid": "b",
                "creationTimestamp": NOW,
            },
            "spec": {"image": "pipecat-bot:dev", **spec},
        }
    )


def job(**changes: Any) -> JobView:
    """A Job made a second ago."""
    view = JobView(f"bs-{UID}", "job-uid", NOW - timedelta(seconds=1), None, {})
    return replace(view, **changes)


def pod(**changes: Any) -> PodView:
    """A pod that has just been scheduled."""
    view = PodView(
        name=f"bs-{UID}-x",
        uid="pod-uid",
        node="node",
        phase="Pending",
        reason="",
        ready_at=None,
        deletion_at=None,
        disruption=None,
        trouble=None,
        exit_code=None,
        exit_reason="",
        termination_message="",
        finished_at=None,
    )
    return replace(view, **changes)


def observed(of: BotSession, a_bot: Bot | None = None, **known: Any) -> Observed:
    """What the operator knows."""
    return Observed(session=of, limits=resolve_limits(of, a_bot), seen_at=NOW, bot=a_bot, **known)


def starting() -> BotSession:
    """A session whose Job was made."""
    return session({"phase": "Starting", "jobName": f"bs-{UID}", "room": {"name": "r", "url": "https://r"}})


def running() -> BotSession:
    """A session whose bot is in the room."""
    return session({"phase": "Running", "jobName": f"bs-{UID}", "room": {"name": "r", "url": "https://r"}})
