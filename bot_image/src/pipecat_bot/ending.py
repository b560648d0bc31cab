"""Why a session ended, in the words the operator reads: a reason, a sentence for people, an exit code."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MESSAGE_LIMIT: Final = 4096
"""Bytes of a termination message that Kubernetes keeps."""


class EndReason(StrEnum):
    """As in a BotSession's ``status.endReason``."""

    USER_LEFT = "UserLeft"
    BOT_FINISHED = "BotFinished"
    MAX_DURATION = "MaxDuration"
    NO_SHOW = "NoShow"
    IDLE = "Idle"
    STOPPED = "Stopped"
    EJECTED = "Ejected"
    BAD_CONFIG = "BadConfig"
    BOT_FAILED = "BotFailed"
    JOIN_FAILED = "JoinFailed"


_FAILURES: Final = {EndReason.BAD_CONFIG: 64, EndReason.BOT_FAILED: 70, EndReason.JOIN_FAILED: 75}
"""As sysexits.h has them. Everything else is 0: a Job must not show Failed because a user hung up."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One end of one session."""

    reason: EndReason
    message: str

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return _FAILURES.get(self.reason, 0)

    def termination_message(self) -> str:
        """JSON of at most MESSAGE_LIMIT bytes; a longer sentence is cut."""
        message = self.message
        while True:
            text = json.dumps({"reason": self.reason.value, "message": message})
            excess = len(text) - MESSAGE_LIMIT  # json.dumps writes ASCII: characters are bytes
            if excess <= 0:
                return text
            # One character takes up to twelve bytes; cutting a twelfth too little only means one more round.
            message = message[: len(message) - max(1, excess // 12)]
