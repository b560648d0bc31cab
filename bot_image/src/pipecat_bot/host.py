"""Runs one bot in one session: keeps the lifecycle, and does what its steps say."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, Final

from loguru import logger
from pipecat.runner.types import DailyRunnerArguments

from pipecat_bot import attachment, hooks
from pipecat_bot.attachment import Attachment
from pipecat_bot.ending import Ending, EndReason
from pipecat_bot.environment import Environment
from pipecat_bot.last_words import LastWords, Watchdog
from pipecat_bot.lifecycle import (
    EXIT_AT,
    BotRaised,
    BotReturned,
    Event,
    State,
    Step,
    StopAsked,
    after,
    due,
    last_moment,
    says_goodbye,
    wake_at,
)
from pipecat_bot.loader import Bot
from pipecat_bot.session_arguments import daily_type

Routes = contextlib.AbstractAsyncContextManager[None]
"""The bot's own HTTP routes are served while in it. Entering raises NotServed."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class NotServed(Exception):
    """The bot's own HTTP routes can't be served; the text says why."""


def runner_arguments(environment: Environment) -> DailyRunnerArguments:
    """What ``bot()`` is handed. Signals and idleness are the host's, so Pipecat's handling of both is off."""
    arguments = daily_type()(
        room_url=environment.room_url,
        token=environment.token.get_secret_value(),
        body=environment.body,
        session_id=environment.session_id,
    )
    arguments.handle_sigint = False
    arguments.handle_sigterm = False
    arguments.pipeline_idle_timeout_secs = None
    return arguments


def add_setup_file(environment: Environment) -> None:
    """Ours first: it watches how the bot author's own fare."""
    files = [str(Path(hooks.__file__).resolve()), environment.setup_files]
    os.environ["PIPECAT_SETUP_FILES"] = os.pathsep.join(filter(None, files))


class Host:
    """Of one session."""

    def __init__(self, environment: Environment, last_words: LastWords) -> None:
        self._limits = environment.limits
        self._last_words = last_words
        self._watchdog = Watchdog(last_words)
        self._attachment = Attachment(self.tell, self._own_signals)
        self._state = State()
        self._changed = asyncio.Event()
        self._bot: asyncio.Task[None] | None = None
        self._doing: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def in_room(self) -> bool:
        """Whether the bot is in the room."""
        return self._state.in_room

    def tell(self, event: Event) -> None:
        """Something happened. On the event loop's thread."""
        self._move(after(self._state, event, time.monotonic()))

    async def run(self, bot: Bot, arguments: DailyRunnerArguments, routes: Routes) -> Ending:
        """Until the session has ended; answers why. ``routes``: from before ``bot()`` begins until it has ended."""
        attachment.attach(self._attachment)
        self._own_signals()
        self._bot = asyncio.create_task(self._run_bot(bot, arguments, routes), name="bot")
        while self._state.step is not Step.EXIT:
            self._changed.clear()
            wake = wake_at(self._state, self._limits)
            timeout = None if wake is None else max(0.0, wake - time.monotonic())
            try:
                await asyncio.wait_for(self._changed.wait(), timeout)
            except TimeoutError:
                self._move(due(self._state, self._limits, time.monotonic()))
        ending = self._state.ending
        if ending is None:
            raise AssertionError("a session does not get to its exit without an ending")
        if not self._bot.done():
            logger.error("The bot did not end in time: leaving it")
            self._last_words.exit_now(ending)
        return ending

    def _move(self, state: State) -> None:
        before, self._state = self._state, state
        if before == state:
            return
        if state.joined_at is not None and before.joined_at is None:
            logger.info("The bot is in the room")
        if len(state.users) != len(before.users):
            logger.info(f"Users in the room: {len(state.users)}")
        if state.ending and not before.ending:
            logger.info(f"The session ends: {state.ending.reason}: {state.ending.message}")
            self._last_words.say(state.ending)
        moment = last_moment(state, self._limits)
        if moment:
            self._watchdog.no_later_than(*moment)
        if state.step is not before.step:
            self._take(state)
        self._changed.set()

    def _take(self, state: State) -> None:
        if state.step is Step.FINISH:
            self._do(self._attachment.finish(says_goodbye(state)))
        elif state.step is Step.CANCEL and not self._attachment.empty:
            self._do(self._attachment.cancel())
        elif state.step in (Step.CANCEL, Step.ABANDON) and self._bot:
            self._bot.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    async def _run_bot(self, bot: Bot, arguments: DailyRunnerArguments, routes: Routes) -> None:
        try:
            async with routes:
                await bot(arguments)
        except NotServed as error:
            self.tell(BotRaised(str(error)))
        except (asyncio.CancelledError, SystemExit) as error:
            code = error.code if isinstance(error, SystemExit) else None
            self.tell(BotRaised(f"bot() exited with {code}.") if code else BotReturned())
        except BaseException as error:
            logger.opt(exception=error).error("bot() raised")
            self.tell(BotRaised(f"bot() raised {type(error).__name__}: {error}"))
        else:
            self.tell(BotReturned())

    def _own_signals(self) -> None:
        """Also after a bot's runner has taken them."""
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)
            signal.signal(number, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        # Runs even while the bot's code holds up the event loop: from here on the grace is kept.
        ending = Ending(EndReason.STOPPED, "The session was asked to stop, and the bot did not react.")
        self._watchdog.no_later_than(time.monotonic() + EXIT_AT * self._limits.grace, ending)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the session is over already
            self._loop.call_soon_threadsafe(self.tell, StopAsked())
