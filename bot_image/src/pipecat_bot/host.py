"""Hosts one bot: watches its pipeline by Pipecat's own hook, and ends it politely, at once, or by force."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pipecat_bot import readiness
from pipecat_bot.ending import Ending, Reason
from pipecat_bot.environment import Session
from pipecat_bot.lifecycle import Lifecycle

GOODBYE: Final = "Our time is up. Goodbye."
GOODBYE_MIN_GRACE_S: Final = 8.0
"""A shorter grace is spent on leaving."""
FORCE_MARGIN_S: Final = 1.0
"""Before the kubelet's SIGKILL."""
LEAVE_S: Final = 5.0
"""What a bot gets to leave the room once its pipeline was cancelled."""

BotFunction = Callable[[Any], Awaitable[None]]

_current: list["Host"] = []


def current() -> "Host":
    """The one host of this process."""
    return _current[0]


class BadBot(Exception):
    """There is no bot to run; the text says what to do."""


class Host:
    """One session of one bot."""

    def __init__(self, session: Session, bot_file: Path) -> None:
        self._session = session
        self._bot_file = bot_file
        self._life = Lifecycle(session)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._worker: Any = None
        self._bot: asyncio.Future[None] | None = None
        _current[:] = [self]

    async def run(self) -> Ending:
        """The whole session; the termination message is written before it answers."""
        server = await readiness.serve(self._session.host, lambda: self._life.in_room)
        self.take_sigterm()
        try:
            ending = await self._run()
        finally:
            server.close()
        ending.write(self._session.termination_message)
        return ending

    def take_sigterm(self) -> None:
        """SIGTERM is the host's, whatever a runner asked for; it also works while bot code blocks the loop."""
        self._loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._sigterm)

    def attach(self, worker: Any) -> None:
        """Called by the setup hook with the bot's PipelineWorker (or the deprecated PipelineTask)."""
        from pipecat_bot.watch import watch  # noqa: PLC0415 - Pipecat is imported by the bot, not before it

        self.take_sigterm()
        self._worker = worker
        watch(worker, self._life, self._told)

    async def _run(self) -> Ending:
        life = self._life
        try:
            bot = self._load()
        except BadBot as bad:
            return Ending(Reason.BAD_CONFIG, str(bad))
        except Exception:
            return Ending(Reason.BOT_FAILED, traceback.format_exc())
        if life.ending:
            return life.ending
        self._bot = asyncio.ensure_future(bot(self._arguments()))
        self._bot.add_done_callback(lambda _: self._told())
        while life.ending is None:
            self._changed.clear()
            wait = life.tick(time.monotonic())
            if self._bot.done():
                await self._bot_returned()
            if life.ending is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
        self._force_later()
        await self._end(life.ending)
        return life.ending

    async def _bot_returned(self) -> None:
        """Events that were under way when it returned tell more than that it did."""
        await asyncio.sleep(0)
        error = self._bot.exception() if self._bot and not self._bot.cancelled() else None
        if error is not None:
            self._life.failed("".join(traceback.format_exception(error)))
        else:
            self._life.returned()

    async def _end(self, ending: Ending) -> None:
        """Have the pipeline end, then bot() return; insist step by step."""
        bot, worker = self._bot, self._worker
        if bot is None or bot.done():
            return
        grace = self._session.grace_s
        if worker is not None and ending.polite and grace >= GOODBYE_MIN_GRACE_S:
            from pipecat.frames.frames import EndFrame, TTSSpeakFrame  # noqa: PLC0415 - the bot has it imported

            with contextlib.suppress(Exception):
                await worker.queue_frames([TTSSpeakFrame(GOODBYE), EndFrame()])
            if await self._within(grace / 2):
                return
        if worker is not None:
            with contextlib.suppress(Exception):
                await worker.cancel(reason=str(ending.reason))
            if await self._within(LEAVE_S):
                return
        bot.cancel()
        await self._within(LEAVE_S)

    async def _within(self, seconds: float) -> bool:
        """Whether bot() returned in time; what it raised after the end no longer matters."""
        if self._bot is None:
            return True
        done, _ = await asyncio.wait([self._bot], timeout=seconds)
        if done and not self._bot.cancelled():
            self._bot.exception()
        return bool(done)

    def _sigterm(self, *_: Any) -> None:
        self._life.stop()
        if self._bot is None and self._life.ending:
            # Nothing has begun: imports may take seconds yet.
            self._leave_now(self._life.ending)
        self._force_later()
        self._told()

    def _force_later(self) -> None:
        """A thread, because bot code may block the loop."""
        timer = threading.Timer(max(0.1, self._session.grace_s - FORCE_MARGIN_S), self._force)
        timer.daemon = True
        timer.start()

    def _force(self) -> None:
        if self._life.ending:
            self._leave_now(self._life.ending)

    def _leave_now(self, ending: Ending) -> None:
        ending.write(self._session.termination_message)
        os._exit(ending.exit_code)

    def _told(self) -> None:
        """Something was told to the life: look at it. From any thread."""
        self._loop.call_soon_threadsafe(self._changed.set)

    def _load(self) -> BotFunction:
        """The bot() of the bot file, with the hook in place before Pipecat is imported."""
        hook = str(Path(__file__).with_name("setup_hook.py"))
        there = [file for file in os.environ.get("PIPECAT_SETUP_FILES", "").split(os.pathsep) if file]
        os.environ["PIPECAT_SETUP_FILES"] = os.pathsep.join([*there, hook])
        if not self._bot_file.is_file():
            raise BadBot(f"There is no {self._bot_file.name} in {self._bot_file.parent}: put your bot there.")
        from pipecat_bot import logs  # noqa: PLC0415 - loguru, 30 ms that SIGTERM need not wait for

        logs.configure(self._session, self._life.failed)
        module = _import(self._bot_file)
        bot = getattr(module, "bot", None)
        if bot is None:
            raise BadBot(f"{self._bot_file.name} has no 'async def bot(runner_args)': write one.")
        return bot  # type: ignore[no-any-return]

    def _arguments(self) -> Any:
        from pipecat.runner.types import DailyRunnerArguments  # noqa: PLC0415 - the bot has it imported

        arguments = DailyRunnerArguments(
            room_url=self._session.room_url,
            token=self._session.token,
            body=self._session.body if self._session.body is not None else {},
            session_id=self._session.session_id,
        )
        # Idleness, like signals, is the host's.
        arguments.pipeline_idle_timeout_secs = None
        return arguments


def _import(file: Path) -> ModuleType:
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("bot", file)
    if spec is None or spec.loader is None:
        raise BadBot(f"{file.name} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bot"] = module
    spec.loader.exec_module(module)
    return module
