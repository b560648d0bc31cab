"""What is known of one session: a frozen snapshot, read from API objects. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from pipecat_operator import names
from pipecat_operator.api import Bot, BotSession, Limits, RoomStatus
from pipecat_operator.conditions import EndReason
from pipecat_operator.kube import Object

_PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_YEARS: Final = range(1970, 9000)
"""A time outside of them was set by nobody's clock, and can't be reckoned with."""
_CONFIG_FAILURES = frozenset({"CreateContainerConfigError", "CreateContainerError"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a bot is not in its room: a word, a sentence, and since when."""

    reason: EndReason
    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class ConditionView:
    """One true condition of a Job or Pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class JobView:
    """What is read of a Job. ``gone``: it was there and was deleted."""

    name: str
    uid: str
    created_at: datetime
    limits: Limits | None
    conditions: Mapping[str, ConditionView]
    gone: bool = False

    @property
    def succeeded(self) -> bool:
        """The Job controller saw the bot's pod succeed. Complete alone may lag minutes behind."""
        return not self.conditions.keys().isdisjoint({"SuccessCriteriaMet", "Complete"})

    @property
    def failure(self) -> ConditionView | None:
        """Why the Job controller gave the Job up. Failed alone may lag minutes behind."""
        return self.conditions.get("FailureTarget") or self.conditions.get("Failed")


@dataclass(frozen=True, slots=True)
class PodView:
    """What is read of a Pod. ``gone``: it was there and was removed; the rest is how it was last seen."""

    name: str
    uid: str
    node: str
    """Empty: not scheduled."""
    phase: str
    reason: str
    ready_at: datetime | None
    deletion_at: datetime | None
    """When its grace is over (deletionTimestamp)."""
    disruption: ConditionView | None
    trouble: Trouble | None
    exit_code: int | None
    exit_reason: str
    termination_message: str
    finished_at: datetime | None
    ip: str | None = None
    """None: not told yet."""
    gone: bool = False

    @property
    def terminal(self) -> bool:
        """Its containers have ended."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision about one session rests on."""

    session: BotSession
    limits: Limits
    """Those recorded on the Job; before there is one, resolved from session and Bot."""
    seen_at: datetime
    bot: Bot | None = None
    job: JobView | None = None
    pod: PodView | None = None
    room: RoomStatus | None = None
    """Made by a try to start that then failed of something else."""
    start_trouble: Trouble | None = None
    """Why the last try to make the room, Secret and Job failed."""
    cause: Trouble | None = None
    """What warning events tell, once they were looked at."""
    job_is_gone: bool | None = None
    """Read from the API server, not the cache; None: not asked yet."""
    cause_looked_for: bool = False
    needs_slot: bool = False
    """It has none yet, without which it may not start."""
    full: str | None = None
    """It wanted a slot and got none: whose are all taken, and what to do about it."""
    pod_looked_for: bool = False
    """``pod`` was read from the API server, not from the cache."""


def session_of_job(job: Object) -> str | None:
    """The UID of the session whose Job that is; None: it has our labels, but isn't ours."""
    metadata = job["metadata"]
    uid: str | None = (metadata.get("labels") or {}).get(names.LABEL_SESSION)
    ours = uid and metadata["name"] == names.job_name(uid) and _controller(metadata).get("uid") == uid
    return uid if ours else None


def session_of_pod(pod: Object) -> str | None:
    """The UID of the session whose Job made that pod; None: it has our labels, but isn't ours."""
    metadata = pod["metadata"]
    uid: str | None = (metadata.get("labels") or {}).get(names.LABEL_SESSION)
    owner = _controller(metadata)
    ours = uid and (owner.get("kind"), owner.get("name")) == ("Job", names.job_name(uid))
    return uid if ours else None


def _controller(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")), {})


def job_view(job: Object) -> JobView:
    """The few fields that decisions read."""
    metadata = job["metadata"]
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        limits=_limits((metadata.get("annotations") or {}).get(names.ANNOTATION_LIMITS)),
        conditions=_true_conditions(job),
    )


def pod_view(pod: Object) -> PodView:
    """The few fields that decisions read."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    container: Mapping[str, Any] = next(
        (c for c in status.get("containerStatuses") or () if c.get("name") == names.CONTAINER), {}
    )
    ended = (container.get("state") or {}).get("terminated") or {}
    ready = _condition(pod, "Ready")
    disruption = _condition(pod, "DisruptionTarget")
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        node=(pod.get("spec") or {}).get("nodeName") or "",
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        ready_at=_time(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
        deletion_at=_time(metadata.get("deletionTimestamp")),
        disruption=_view(disruption) if disruption.get("status") == "True" else None,
        trouble=_trouble(pod, container),
        exit_code=ended.get("exitCode"),
        exit_reason=ended.get("reason") or "",
        termination_message=ended.get("message") or status.get("message") or "",
        finished_at=_time(ended.get("finishedAt")),
        ip=status.get("podIP"),
    )


def _trouble(pod: Object, container: Mapping[str, Any]) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    word, message = waiting.get("reason") or "", waiting.get("message") or ""
    if word in _PULL_FAILURES:
        return Trouble(EndReason.IMAGE_PULL_FAILED, f"{word}: {message}", created)
    if word in _CONFIG_FAILURES:
        return Trouble(EndReason.BAD_CONFIG, f"{word}: {message}", created)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble(EndReason.UNSCHEDULABLE, scheduled.get("message") or "", created)
    return None


def _condition(thing: Object, kind: str) -> Mapping[str, Any]:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def _true_conditions(thing: Object) -> dict[str, ConditionView]:
    conditions = (thing.get("status") or {}).get("conditions") or ()
    return {c["type"]: _view(c) for c in conditions if c.get("status") == "True"}


def _view(condition: Mapping[str, Any]) -> ConditionView:
    return ConditionView(condition.get("reason") or "", condition.get("message") or "")


@lru_cache(maxsize=32)
def _limits(recorded: str | None) -> Limits | None:
    """None: nothing that anybody could read. Most sessions have those of another."""
    try:
        return Limits.model_validate_json(recorded) if recorded else None
    except ValidationError:
        return None


def _time(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return at if at and at.year in _YEARS else None
