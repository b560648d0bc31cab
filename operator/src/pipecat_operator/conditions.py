"""The words of a session's status: phases, condition types, end reasons, and what a bot's exit code means."""

from enum import StrEnum
from typing import Final

MESSAGE_MAX: Final = 2048
"""Characters of any message; what the API server refuses it may quote whole."""


def brief(message: str) -> str:
    """The message, or its beginning."""
    return message if len(message) <= MESSAGE_MAX else message[: MESSAGE_MAX - 3] + "..."


class Phase(StrEnum):
    """Where a session stands. No phase yet means Pending."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    ENDING = "Ending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def finished(self) -> bool:
        """Nothing of a finished session changes any more."""
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class ConditionType(StrEnum):
    """Conditions of a BotSession."""

    ROOM_READY = "RoomReady"
    JOB_CREATED = "JobCreated"
    BOT_READY = "BotReady"
    FINISHED = "Finished"


class EndReason(StrEnum):
    """Why a session ended."""

    USER_LEFT = "UserLeft"
    BOT_FINISHED = "BotFinished"
    MAX_DURATION = "MaxDuration"
    NO_SHOW = "NoShow"
    IDLE = "Idle"
    STOPPED = "Stopped"
    EJECTED = "Ejected"

    JOIN_FAILED = "JoinFailed"
    BOT_FAILED = "BotFailed"
    OUT_OF_MEMORY = "OutOfMemory"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    BOT_DELETED = "BotDeleted"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    UNSCHEDULABLE = "Unschedulable"
    BAD_CONFIG = "BadConfig"
    POD_REFUSED = "PodRefused"
    START_TIMEOUT = "StartTimeout"
    BOT_NOT_FOUND = "BotNotFound"
    ROOM_FAILED = "RoomFailed"
    BODY_TOO_LARGE = "BodyTooLarge"
    CAPACITY_REACHED = "CapacityReached"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"

    @property
    def phase(self) -> Phase:
        """The phase a session that ended for this reason is in."""
        return Phase.SUCCEEDED if self in SUCCEEDED else Phase.FAILED


SUCCEEDED: Final = frozenset(
    {
        EndReason.USER_LEFT,
        EndReason.BOT_FINISHED,
        EndReason.MAX_DURATION,
        EndReason.NO_SHOW,
        EndReason.IDLE,
        EndReason.STOPPED,
        EndReason.EJECTED,
    }
)

REPORTED_BY_BOT: Final = SUCCEEDED | {EndReason.JOIN_FAILED, EndReason.BOT_FAILED, EndReason.BAD_CONFIG}
"""The reasons a bot's host may give in its termination message; any other word there is not believed."""

REASON_BY_EXIT_CODE: Final = {
    0: EndReason.BOT_FINISHED,
    64: EndReason.BAD_CONFIG,
    70: EndReason.BOT_FAILED,
    75: EndReason.JOIN_FAILED,
}
"""What an exit code of container ``bot`` says when no termination message was left (pipecat_bot.ending)."""
