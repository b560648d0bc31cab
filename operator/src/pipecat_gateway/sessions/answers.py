"""From sessions to answers, in Pipecat Cloud's shapes and in our own; and which of them a list has. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from pipecat_gateway.sessions.views import Session
from pipecat_gateway.wire.models import (
    Completion,
    EndState,
    Event,
    EventCode,
    Organization,
    Organizations,
    Service,
    ServiceAnswer,
    SessionDetails,
    SessionInfo,
    SessionList,
    SessionsQuery,
    SessionStatus,
)
from pipecat_operator.api import Metadata
from pipecat_operator.conditions import SUCCEEDED, EndReason, Phase

_TERMINATED: Final = (EndReason.STOPPED, EndReason.BOT_DELETED)


def described(session: Session) -> SessionStatus:
    """In the operator's words."""
    return SessionStatus(
        session_id=session.uid,
        bot=session.bot,
        created_at=session.created_at,
        phase=session.phase,
        daily_room=session.room,
        end_reason=session.end_reason,
        message=session.message,
        started_at=session.started_at,
        joined_at=session.joined_at,
        ended_at=session.ended_at,
    )


def end_state(session: Session) -> EndState:
    """How it ended, in the words of Pipecat Cloud's CLI."""
    if not session.finished:
        return "active"
    if session.end_reason in _TERMINATED:
        return "terminated"
    if session.end_reason in SUCCEEDED:
        return "completed"
    if session.end_reason == EndReason.START_TIMEOUT:
        return "agent_start_timeout"
    if session.joined_at is None:
        return "ended_before_agent_start"
    return "agent_error" if session.end_reason in tuple(EndReason) else "unknown"


def start_seconds(session: Session) -> int | None:
    """From the request to the bot in the room."""
    if session.joined_at is None:
        return None
    return max(0, round((session.joined_at - session.created_at).total_seconds()))


def info(session: Session, bot_uid: str | None, tenant: str) -> SessionInfo:
    """As a list has it."""
    completion: dict[Phase, Completion] = {Phase.SUCCEEDED: "HTTP_COMPLETED", Phase.FAILED: "HTTP_ERROR"}
    times = (session.created_at, session.started_at, session.joined_at, session.ended_at)
    return SessionInfo(
        session_id=session.uid,
        service_id=bot_uid,
        organization_id=tenant,
        deployment_id=bot_uid,
        created_at=_time(session.created_at),
        updated_at=_time(max(at for at in times if at)),
        ended_at=_time(session.ended_at) if session.ended_at else None,
        bot_start_seconds=start_seconds(session),
        cold_start=True,
        completion_status=completion.get(session.phase),
        end_state=end_state(session),
        end_reason=session.end_reason,
    )


def details(session: Session, bot_uid: str | None, tenant: str) -> SessionDetails:
    """The one that was asked for."""
    over: EventCode = "SESSION_TIMEOUT" if session.end_reason == EndReason.START_TIMEOUT else "SESSION_COMPLETED"
    moments: tuple[tuple[EventCode, datetime | None], ...] = (
        ("SESSION_START_INITIATED", session.created_at),
        ("REQUEST_ARRIVED_AT_BOT", session.joined_at),
        (over, session.ended_at),
    )
    return SessionDetails(
        **dict(info(session, bot_uid, tenant)),
        message=session.message,
        events=[Event(event_code=code, event_ts=_time(at)) for code, at in moments if at],
    )


def page(sessions: Iterable[Session], asked: SessionsQuery, bot_uid: str | None, tenant: str) -> SessionList:
    """Those that were asked for, the latest first."""
    found = sorted((s for s in sessions if wanted(s, asked, bot_uid)), key=_order, reverse=True)
    shown = found[asked.offset : asked.offset + asked.limit]
    return SessionList(total_count=len(found), sessions=[info(session, bot_uid, tenant) for session in shown])


def wanted(session: Session, asked: SessionsQuery, bot_uid: str | None) -> bool:
    """Whether every filter lets it through."""
    created, took = session.created_at.timestamp(), start_seconds(session)
    return (
        (asked.status == "all" or (asked.status == "ended") == session.finished)
        and asked.end_state in (None, end_state(session))
        and asked.start_type != "warm"
        and asked.deployment_id in (None, bot_uid)
        and (asked.start_time is None or created >= asked.start_time)
        and (asked.end_time is None or created <= asked.end_time)
        and (not asked.start_time_min or (took is not None and took >= asked.start_time_min))
        and (not asked.start_time_max or (took is not None and took <= asked.start_time_max))
    )


def service(bot: Metadata, tenant: str, active: int) -> ServiceAnswer:
    """A Bot. It is always ready: what its pods lack is told by its sessions."""
    return ServiceAnswer(
        body=Service(
            id=bot.uid,
            name=bot.name,
            organization_id=tenant,
            ready=True,
            available=True,
            active_session_count=active,
            created_at=_time(bot.creation_timestamp),
        )
    )


def organizations(tenant: str) -> Organizations:
    """The caller's own."""
    return Organizations(organizations=[Organization(id=tenant, name=tenant, verbose_name=tenant)])


def _order(session: Session) -> tuple[datetime, str]:
    # Kubernetes counts creation in whole seconds: the UID makes pages stable.
    return session.created_at, session.uid


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
