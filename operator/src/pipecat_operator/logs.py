"""loguru for everything: our own lines, and those of kopf and aiohttp."""

import logging
import re
import sys
from typing import Final

import loguru
from loguru import logger

TEXT: Final = "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level:<7} {message}"

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Ends a line, moves a terminal's cursor or turns its text around."""


def configure(level: str, style: str) -> None:
    """One line an event on standard error. Tracebacks come without values, which may be secrets."""
    logger.remove()
    logger.configure(patcher=_on_one_line)
    logger.add(
        sys.stderr,
        level=level,
        format=TEXT,
        serialize=style == "json",
        diagnose=False,
        backtrace=False,
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)


def _on_one_line(record: "loguru.Record") -> None:
    """Names and messages of others are told too: they must not look like lines of ours."""
    record["message"] = _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], record["message"])


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # kopf's sentences hold the error; its tracebacks only tell of its insides.
        traceback = None if record.name.startswith("kopf") else record.exc_info
        logger.opt(exception=traceback).log(record.levelname, "{}: {}", record.name, record.getMessage())
