"""What a session's status says at each turn of its life. Pure."""

from datetime import datetime

from pipecat_operator.api import BotSession, BotSessionStatus, Condition, RoomStatus
from pipecat_operator.conclude import Conclusion
from pipecat_operator.conditions import ConditionType, Phase, brief
from pipecat_operator.names import job_name, secret_name
from pipecat_operator.observe import PodView, Trouble


def waiting(
    session: BotSession, condition: ConditionType, trouble: str, message: str, now: datetime
) -> BotSessionStatus:
    """Not started yet, and why."""
    return _with(
        session,
        now,
        {condition: (False, trouble, message)},
        phase=session.status.phase or Phase.PENDING,
        message=brief(message),
    )


def starting(session: BotSession, room: RoomStatus, now: datetime) -> BotSessionStatus:
    """Room, Secret and Job exist."""
    return _with(
        session,
        now,
        {
            ConditionType.ROOM_READY: (True, "RoomReady", ""),
            ConditionType.JOB_CREATED: (True, "JobCreated", ""),
            ConditionType.BOT_READY: (False, "Starting", "The bot is on its way into the room."),
        },
        phase=Phase.STARTING,
        end_reason=None,
        message=None,
        room=room,
        credentials_secret_name=secret_name(session.metadata.uid),
        job_name=job_name(session.metadata.uid),
        started_at=now,
    )


def troubled(session: BotSession, trouble: Trouble, now: datetime) -> BotSessionStatus:
    """The bot's pod does not start, and why."""
    return _with(
        session,
        now,
        {ConditionType.BOT_READY: (False, trouble.reason, trouble.message)},
        message=brief(trouble.message),
    )


def running(session: BotSession, pod: PodView, now: datetime) -> BotSessionStatus:
    """The bot is in the room."""
    return _with(
        session,
        now,
        {ConditionType.BOT_READY: (True, "InTheRoom", "")},
        phase=Phase.RUNNING,
        message=None,
        pod_name=pod.name,
        pod_ip=pod.ip,
        joined_at=pod.ready_at,
    )


def ending(session: BotSession, why: Conclusion, now: datetime) -> BotSessionStatus:
    """The operator, or a deadline, is about to end the bot."""
    return _with(session, now, {}, phase=Phase.ENDING, end_reason=why.reason, message=brief(why.message))


def finished(session: BotSession, why: Conclusion, pod: PodView | None, now: datetime) -> BotSessionStatus:
    """It is over."""
    conditions = {ConditionType.FINISHED: (True, str(why.reason), why.message)}
    if session.status.condition(ConditionType.BOT_READY):
        conditions[ConditionType.BOT_READY] = (False, str(why.reason), "")
    return _with(
        session,
        now,
        conditions,
        phase=why.reason.phase,
        end_reason=why.reason,
        message=brief(why.message),
        pod_name=session.status.pod_name or (pod.name if pod else None),
        ended_at=why.at or now,
    )


def reason_of(status: BotSessionStatus, kind: ConditionType) -> str | None:
    """The reason a condition gives now."""
    condition = status.condition(kind)
    return condition.reason if condition else None


def _with(
    session: BotSession,
    now: datetime,
    conditions: dict[ConditionType, tuple[bool, str, str]],
    **changes: object,
) -> BotSessionStatus:
    generation = session.metadata.generation
    merged: dict[str, Condition] = {c.type: c for c in session.status.conditions}
    for kind, (true, reason, message) in conditions.items():
        status = "True" if true else "False"
        before = merged.get(kind)
        since = before.last_transition_time if before and before.status == status else now
        merged[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=brief(message),
            last_transition_time=since,
            observed_generation=generation,
        )
    return session.status.model_copy(
        update={**changes, "conditions": tuple(merged.values()), "observed_generation": generation}
    )
