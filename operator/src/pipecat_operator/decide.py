"""What to do about one session now. Pure: every rule here is tested without I/O.

A plan is one step; doing it changes what is observed, and the next decision takes the next step.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from pipecat_operator import status
from pipecat_operator.advice import advised
from pipecat_operator.api import BotSessionStatus
from pipecat_operator.conclude import Conclusion, conclude, disruption
from pipecat_operator.conditions import ConditionType, EndReason, Phase
from pipecat_operator.observe import Observed, Trouble

BODY_MAX: Final = 64 * 1024
"""Bytes of the body as JSON."""

OVERDUE: Final = timedelta(seconds=30)
"""A pod still there so long after its grace is on a node that is lost."""

PATIENCE: Final = timedelta(seconds=5)
"""Trouble that passes sooner (a pod waits for a node, an image is pulled again) is not worth a word."""

SILENCE: Final = timedelta(seconds=30)
"""A cluster that has not taken the next step for so long is named."""

AWAY: Final = "Nothing failed in that time: the operator was away, or its clock is ahead of the API server's."


class Look(StrEnum):
    """What to learn before deciding again."""

    JOB = "job"
    """Is the Job really gone? The cache may lag."""
    POD = "pod"
    """How did it end? Its Job says that it did, and of two watches either may lag."""
    CAUSE = "cause"
    """Which warning events tell why the bot does not start?"""
    SLOT = "slot"
    """May one more session live? It is given a slot if so; asked of the cache, not of the API server."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. Nothing set: wait."""

    look: Look | None = None
    start: bool = False
    """Make the room, the Secret and the Job, whichever is missing; then the status says Starting."""
    status: BotSessionStatus | None = None
    terminate: bool = False
    """After the status was written: end the bot by deleting its pod, or the Job that has none yet."""
    event: Trouble | None = None
    """What the user must act on."""
    wake_at: datetime | None = None
    """Decide again then, should nothing happen before."""


def decide(observed: Observed, now: datetime) -> Plan:
    """The next step of a session that has not finished."""
    job, said = observed.job, observed.session.status
    if job is None and not said.job_name:
        return _before_job(observed, now)
    if job is None or job.gone:
        if observed.job_is_gone is None:
            return Plan(look=Look.JOB)
        if observed.job_is_gone:
            return finish(observed, conclude(observed), now)
        # It is there, only our cache doesn't know yet: the watch will tell.
        return Plan(wake_at=now + PATIENCE)
    if _has_ended(observed, now):
        if _is_old_news(observed):
            return Plan(look=Look.POD)
        why = conclude(observed)
        hearing_ends = _hearing_ends(observed, why)
        return Plan(wake_at=hearing_ends) if hearing_ends and now < hearing_ends else finish(observed, why, now)
    if said.phase is Phase.ENDING:
        return _keep_ending(observed, now)
    if observed.session.spec.stop:
        return _end(observed, Conclusion(EndReason.STOPPED, "Stopped as asked by spec.stop."), now)
    if job.failure:
        return _end(observed, conclude(observed), now)
    if said.phase is Phase.RUNNING:
        return Plan(wake_at=_overdue(observed))
    return _before_room(observed, now)


def _before_job(observed: Observed, now: datetime) -> Plan:
    """Nothing was made yet, or the operator died before it could say so."""
    session, deadline = observed.session, _start_deadline(observed)
    if observed.start_trouble and (session.spec.stop or now >= deadline):
        # Its Job may be there all the same: the answer was lost, and the watch lags.
        if observed.job_is_gone is None:
            return Plan(look=Look.JOB)
        if not observed.job_is_gone:
            return Plan(wake_at=now + PATIENCE)
    if session.spec.stop:
        return finish(observed, Conclusion(EndReason.STOPPED, "Stopped before its bot was started."), now)
    if (size := body_size(observed)) > BODY_MAX:
        message = f"spec.body is {size} bytes as JSON; at most {BODY_MAX} are carried. Send a reference instead."
        return finish(observed, Conclusion(EndReason.BODY_TOO_LARGE, message), now)
    if observed.full is not None:
        return finish(observed, Conclusion(EndReason.CAPACITY_REACHED, observed.full), now)
    trouble = _start_trouble(observed)
    if now >= deadline:
        away = Trouble(EndReason.START_TIMEOUT, AWAY, observed.seen_at)
        return finish(observed, _start_timeout(observed, trouble or away), now)
    if observed.bot is not None and observed.needs_slot:
        return Plan(look=Look.SLOT)
    return replace(_tell(observed, trouble, now), start=observed.bot is not None, wake_at=deadline)


def _before_room(observed: Observed, now: datetime) -> Plan:
    """The Job exists; the bot is not in the room yet."""
    said, pod = observed.session.status, observed.pod
    deadline = _start_deadline(observed)
    if not said.job_name and now < deadline:
        # The operator died between the Job and the status: starting again meets what is there.
        return Plan(start=True, wake_at=deadline)
    if pod and pod.ready_at and not pod.gone:
        return Plan(status=status.running(observed.session, pod, now))
    trouble = _pod_trouble(observed)
    if trouble is None and not observed.cause_looked_for and _silent(observed, now, deadline):
        return Plan(look=Look.CAUSE)
    trouble = trouble or _silence(observed, now, deadline)
    if now >= deadline:
        return _end(observed, _start_timeout(observed, trouble), now)
    wake_at = _earliest(deadline, _overdue(observed), _patience_ends(observed, trouble, now))
    told = trouble and status.reason_of(said, ConditionType.BOT_READY) == trouble.reason
    if trouble and not told and now >= trouble.since + PATIENCE:
        return Plan(status=status.troubled(observed.session, trouble, now), event=trouble, wake_at=wake_at)
    return Plan(wake_at=wake_at)


def _keep_ending(observed: Observed, now: datetime) -> Plan:
    """Ending was written; see that the bot really ends."""
    pod = observed.pod
    if pod and pod.deletion_at:
        return Plan(wake_at=_overdue(observed))
    if observed.job and observed.job.failure and pod:
        # The Job controller is deleting the pod itself.
        return Plan(wake_at=now + PATIENCE)
    return Plan(terminate=True, wake_at=now + PATIENCE)


def _end(observed: Observed, why: Conclusion, now: datetime) -> Plan:
    return Plan(
        status=status.ending(observed.session, why, now),
        terminate=observed.job is not None and observed.job.failure is None,
        wake_at=now + PATIENCE,
    )


def give_up(observed: Observed, why: Conclusion, now: datetime) -> Plan:
    """It can't be started; a bot that an earlier try has started is ended first."""
    return _end(observed, why, now) if observed.job else finish(observed, why, now)


def finish(observed: Observed, why: Conclusion, now: datetime) -> Plan:
    """The last step: it is over, and this is why."""
    event = Trouble(why.reason, why.message, now) if why.reason.phase is Phase.FAILED else None
    return Plan(status=status.finished(observed.session, why, observed.pod, now), event=event)


def _tell(observed: Observed, trouble: Trouble | None, now: datetime) -> Plan:
    """Say once why nothing was made yet."""
    kind = ConditionType.JOB_CREATED
    if trouble and trouble.reason is EndReason.ROOM_FAILED:
        kind = ConditionType.ROOM_READY
    if trouble is None or status.reason_of(observed.session.status, kind) == trouble.reason:
        return Plan()
    said = status.waiting(observed.session, kind, trouble.reason, trouble.message, now)
    return Plan(status=said, event=trouble)


def _has_ended(observed: Observed, now: datetime) -> bool:
    """The bot's process is over, or nobody will ever hear of it again."""
    job, pod = observed.job, observed.pod
    if job and job.succeeded:
        return True
    if pod is None:
        return bool(job and job.failure)
    if pod.deletion_at and not pod.node:
        # Nothing ever ran; the Job controller's finalizer holds it for a while yet.
        return True
    overdue = _overdue(observed)
    return pod.gone or pod.terminal or (overdue is not None and now >= overdue)


def _is_old_news(observed: Observed) -> bool:
    """The Job has ended, and nothing was heard of its pod's end."""
    pod = observed.pod
    return not observed.pod_looked_for and (pod is None or not (pod.terminal or pod.gone or pod.deletion_at))


def _hearing_ends(observed: Observed, why: Conclusion) -> datetime | None:
    """Until when to wait for the Job controller's word: at a deadline it deletes the pod first, and says why after."""
    job, pod = observed.job, observed.pod
    if why.reason is not EndReason.BOT_DELETED or pod is None or job is None or job.failure or job.succeeded:
        return None
    ended_at = pod.finished_at or pod.deletion_at
    return ended_at + PATIENCE if ended_at else None


def _start_trouble(observed: Observed) -> Trouble | None:
    session = observed.session
    if observed.bot is None:
        wanted = f"Bot {session.spec.bot_ref.name!r} is not in namespace {session.metadata.namespace!r}"
        return Trouble(EndReason.BOT_NOT_FOUND, f"{wanted}: create it, or mend spec.botRef.name.", observed.seen_at)
    return _advised(observed.start_trouble)


def _pod_trouble(observed: Observed) -> Trouble | None:
    return _advised(observed.cause or (observed.pod.trouble if observed.pod else None))


def _advised(trouble: Trouble | None) -> Trouble | None:
    return replace(trouble, message=advised(trouble.reason, trouble.message)) if trouble else None


def _silence(observed: Observed, now: datetime, deadline: datetime) -> Trouble | None:
    """Nobody says what is wrong: whose turn has it been for long?"""
    job, pod = observed.job, observed.pod
    if job is None or now < min(deadline, job.created_at + SILENCE):
        return None
    if pod is None:
        whose = "Its Job has no pod: is kube-controller-manager running?"
    elif pod.disruption or pod.deletion_at:
        return None
    elif not pod.node:
        whose = f"Its pod {pod.name} has no node: is kube-scheduler running?"
    elif pod.phase == "Pending":
        whose = f"Node {pod.node} has not started its pod {pod.name}: it pulls the image still, or its kubelet is gone."
    else:
        whose = f"It runs, and has not joined: see the log of pod {pod.name}."
    return Trouble(EndReason.START_TIMEOUT, whose, job.created_at)


def _start_timeout(observed: Observed, trouble: Trouble | None) -> Conclusion:
    late = f"The bot was not in the room within {observed.limits.start_timeout_seconds} s."
    if trouble is None and observed.pod and (disrupted := disruption(observed.pod)):
        return disrupted
    if trouble is None:
        return Conclusion(EndReason.START_TIMEOUT, late)
    return Conclusion(trouble.reason, f"{late} {trouble.message}")


def _start_deadline(observed: Observed) -> datetime:
    created = observed.session.metadata.creation_timestamp
    return created + timedelta(seconds=observed.limits.start_timeout_seconds)


def _overdue(observed: Observed) -> datetime | None:
    pod = observed.pod
    return pod.deletion_at + OVERDUE if pod and pod.deletion_at else None


def _silent(observed: Observed, now: datetime, deadline: datetime) -> bool:
    """Nothing in Job or pod tells why: the Job has no pod though it should, or time is up."""
    job = observed.job
    no_pod = observed.pod is None and job is not None and now >= job.created_at + PATIENCE
    return no_pod or now >= deadline


def _patience_ends(observed: Observed, trouble: Trouble | None, now: datetime) -> datetime | None:
    job = observed.job
    ends = [job.created_at + SILENCE] if job else []
    ends += [job.created_at + PATIENCE] if job and observed.pod is None else []
    ends += [trouble.since + PATIENCE] if trouble else []
    return _earliest(*(at for at in ends if at > now))


def _earliest(*times: datetime | None) -> datetime | None:
    return min((at for at in times if at), default=None)


def has_waited_long(observed: Observed, now: datetime) -> bool:
    """Whether its start is so overdue that it ends though nobody can tell why it failed."""
    return now >= _start_deadline(observed) + SILENCE


def body_size(observed: Observed) -> int:
    """Bytes of spec.body as it is carried to the bot."""
    body = observed.session.spec.body
    return 0 if body is None else len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
