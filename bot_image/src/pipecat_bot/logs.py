"""loguru, without tokens; and the one thing that is told only by a log line: that a setup hook failed."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from loguru import logger

from pipecat_bot.environment import Session

if TYPE_CHECKING:
    from loguru import Message, Record

REDACTED = "[redacted]"


def configure(session: Session, hook_failed: Callable[[str], None]) -> None:
    """One line an event on standard error. ``hook_failed`` is called when Pipecat logs that a setup file failed."""

    def redact(record: "Record") -> None:
        if session.token:
            record["message"] = record["message"].replace(session.token, REDACTED)

    def watch(message: "Message") -> None:
        hook_failed(f"A setup hook failed, so nothing watches over the bot: {message.record['message']}")

    logger.remove()
    logger.configure(patcher=redact)
    logger.add(sys.stderr, level="INFO", format="{time:HH:mm:ss.SSS} {level:<7} {message}", diagnose=False)
    logger.add(watch, level="ERROR", filter="pipecat.utils.startup")
