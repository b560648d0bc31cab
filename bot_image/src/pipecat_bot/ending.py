"""Why a bot's session ends, and how that is told: a JSON termination message and an exit code. Pure but for write().

A conversation that ends, for whatever reason, exits 0: a Job must not show Failed, and page somebody, because a user
hung up. The failures have an exit code each (sysexits.h where it has one).
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

MESSAGE_BYTES: Final = 4096
"""Kubernetes cuts longer termination messages."""


class Reason(StrEnum):
    """Words for ``reason`` in the termination message."""

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


EXIT_CODES: Final = {Reason.BAD_CONFIG: 64, Reason.BOT_FAILED: 70, Reason.JOIN_FAILED: 75}
"""Of the failures; all else is 0."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One end. ``polite``: the bot says goodbye first."""

    reason: Reason
    message: str
    polite: bool = False

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return EXIT_CODES.get(self.reason, 0)

    def termination_message(self) -> bytes:
        """At most MESSAGE_BYTES of JSON; a long message loses its beginning, a traceback's end tells most."""
        message = self.message
        while True:
            data = json.dumps({"reason": self.reason, "message": message}, ensure_ascii=False).encode(errors="replace")
            excess = len(data) - MESSAGE_BYTES
            if excess <= 0:
                return data
            message = "..." + message[min(len(message), excess // 4 + 4) :]

    def write(self, path: Path | None) -> None:
        """Where the kubelet looks for it; nowhere when not in a pod."""
        if path is not None:
            path.write_bytes(self.termination_message())
