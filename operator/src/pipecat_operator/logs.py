"""loguru for everything: our own lines, and those of kopf and aiohttp."""

import logging
import sys

from loguru import logger

from pipecat_operator.settings import Settings

TEXT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZ} {level:<7} {message}"


def configure(settings: Settings) -> None:
    """One line an event on standard error; JSON when asked. Tracebacks without values, which may be secrets."""
    logger.remove()
    logger.add(
        sys.stderr,
        level=settings.log_level,
        format=TEXT,
        serialize=settings.log_format == "json",
        diagnose=False,
        backtrace=False,
    )
    logging.basicConfig(handlers=[_ToLoguru()], level=logging.WARNING, force=True)


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(exception=record.exc_info).log(record.levelname, "{}: {}", record.name, record.getMessage())
