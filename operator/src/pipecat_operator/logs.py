"""loguru for everything: our own lines, and those of kopf and aiohttp."""

import logging
import sys

from loguru import logger

TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level:<7} {message}"


def configure(level: str, style: str) -> None:
    """One line an event on standard error. Tracebacks come without values, which may be secrets."""
    logger.remove()
    logger.add(
        sys.stderr,
        level=level,
        format=TEXT,
        serialize=style == "json",
        diagnose=False,
        backtrace=False,
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(exception=record.exc_info).log(record.levelname, "{}: {}", record.name, record.getMessage())
