"""``python -m pipecat_bot``: run bot.py's ``bot()`` for one session, described by the environment.

Importing Pipecat takes a second or two: what must hold from the first moment (SIGTERM, readiness, redaction) is set
up before, from the standard library alone.
"""

import argparse
import contextlib
import gc
import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pipecat_bot import readiness
from pipecat_bot.ending import Ending, EndReason
from pipecat_bot.last_words import LastWords
from pipecat_bot.redaction import redact_output, redactor, secrets_of

if TYPE_CHECKING:
    from pipecat_bot.environment import Environment
    from pipecat_bot.host import Host, Routes
    from pipecat_bot.loader import Bot


class Session:
    """The process's one session, from the first moment on."""

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._host: Host | None = None

    def in_room(self) -> bool:
        """For /readyz."""
        return self._host is not None and self._host.in_room

    def run(self) -> Ending:
        """All of it."""
        self._stop_at_once_when_asked()
        address = os.environ.get("POD_IP") or "127.0.0.1"
        try:
            probes = readiness.serve(address, self.in_room)
        except OSError as error:
            return _bad(f"Cannot listen on {address}:{readiness.PORT}: {error.strerror}. Set POD_IP to a free address.")
        from pipecat_bot import environment  # noqa: PLC0415

        try:
            told = environment.read(os.environ)
        except environment.BadEnvironment as error:
            return _bad(str(error))
        return self._run_bot(told, probes)

    def _run_bot(self, told: "Environment", probes: readiness.Readiness) -> Ending:
        import asyncio  # noqa: PLC0415

        from loguru import logger  # noqa: PLC0415

        from pipecat_bot import loader  # noqa: PLC0415

        # Importing makes many objects and hardly any garbage: uncollected it takes a sixth less time.
        gc.disable()
        try:
            bot = loader.load(told.bot_file)
        except loader.NoBot as error:
            return _bad(str(error))
        except BaseException as error:
            logger.opt(exception=error).error("The bot's file could not be imported")
            return Ending(EndReason.BOT_FAILED, f"{told.bot_file} raised {type(error).__name__}: {error}")
        finally:
            gc.freeze()
            gc.enable()
        return asyncio.run(self._host_bot(told, bot, _routes(probes, told.session_id)))

    async def _host_bot(self, told: "Environment", bot: "Bot", routes: "Routes") -> Ending:
        from pipecat_bot import host  # noqa: PLC0415

        host.add_setup_file(told)
        self._host = host.Host(told, self._last_words)
        return await self._host.run(bot, host.runner_arguments(told), routes)

    def _stop_at_once_when_asked(self) -> None:
        """Until there is a host: nothing is running yet that could be ended politely."""

        def stop(_: int, __: FrameType | None) -> None:
            self._last_words.exit_now(Ending(EndReason.STOPPED, "The session was asked to stop before it began."))

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)


def _routes(probes: readiness.Readiness, session_id: str | None) -> "Routes":
    """Of a bot whose file asked for them; the others' start isn't held up by a web server."""
    system = sys.modules.get("pipecatcloud_system")
    if system is None:
        return contextlib.nullcontext()
    from pipecat_bot import session_api  # noqa: PLC0415

    return session_api.served(system.app, probes, session_id)


_bad = partial(Ending, EndReason.BAD_CONFIG)


def main() -> int:
    """Answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_bot", description="Run one bot in one Daily room.")
    parser.add_argument("bot", nargs="?", help="the bot's file (default: bot.py here)")
    parser.add_argument("-u", "--url", help="the room to join (default: DAILY_ROOM_URL)")
    parser.add_argument("-t", "--token", help="the bot's token for it (default: DAILY_ROOM_TOKEN)")
    arguments = parser.parse_args()
    given = {"PIPECAT_BOT_FILE": arguments.bot, "DAILY_ROOM_URL": arguments.url, "DAILY_ROOM_TOKEN": arguments.token}
    os.environ.update({name: value for name, value in given.items() if value})
    # loguru would print the values of variables, tokens among them, into tracebacks.
    os.environ.setdefault("LOGURU_DIAGNOSE", "NO")
    redact = redactor(secrets_of(os.environ))
    redact_output(redact)
    path = os.environ.get("PIPECAT_TERMINATION_MESSAGE_PATH")
    last_words = LastWords(Path(path) if path else None, redact)
    ending = last_words.say(Session(last_words).run())
    print(f"{ending.reason}: {ending.message}", file=sys.stderr)
    return ending.exit_code


if __name__ == "__main__":
    sys.exit(main())
