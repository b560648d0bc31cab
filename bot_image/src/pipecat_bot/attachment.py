"""Where the host holds on to a bot's Pipecat objects: what happens there becomes events, steps become frames.

Works on any bot through Pipecat's own hooks and event handlers; the bot's own handlers stay in place.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from loguru import logger
from pipecat.frames.frames import (
    BotSpeakingFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    StartFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.daily.transport import DailyTransport
from pipecat.workers.runner import WorkerRunner

from pipecat_bot.lifecycle import (
    Event,
    HookFailed,
    Joined,
    LeftRoom,
    PipelineFinished,
    PipelineStuck,
    PutOut,
    Speech,
    TransportFailed,
    Trouble,
    UserJoined,
    UserLeft,
)

if TYPE_CHECKING:
    from loguru import Message

GOODBYE: Final = "Our time is up. Have a nice day."
"""Said at the maximum duration."""

_SPEECH: Final = (
    BotSpeakingFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
)
"""What Pipecat's own idle timeout takes for life."""
_PIPECAT_IDLE: Final = "idle timeout"
"""The reason in the CancelFrame of Pipecat's own idle timeout."""


class _SpeechObserver(BaseObserver):
    def __init__(self, tell: Callable[[Event], None]) -> None:
        super().__init__(observe_every_push=False)
        self._tell = tell

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, _SPEECH):
            self._tell(Speech())


class Attachment:
    """To one bot's runners and pipelines."""

    def __init__(self, tell: Callable[[Event], None], own_signals: Callable[[], None]) -> None:
        self._tell = tell
        self._own_signals = own_signals
        self._runners: list[WorkerRunner] = []
        self._workers: list[PipelineWorker] = []
        self._room_worker: PipelineWorker | None = None
        self._closing = False
        self._hook_log: int | None = None

    @property
    def empty(self) -> bool:
        """The bot has started nothing yet."""
        return not self._runners and not self._workers

    def add_runner(self, runner: WorkerRunner) -> None:
        """From the hook."""
        self._refuse_when_closing()
        self._listen_for_failing_hooks()
        with self._reporting():
            self._runners.append(runner)
            self._own_signals()

    def add_worker(self, worker: PipelineWorker) -> None:
        """From the hook."""
        self._refuse_when_closing()
        self._listen_for_failing_hooks()
        with self._reporting():
            self._workers.append(worker)
            transport = next(_daily_transports(worker.pipeline), None)
            if transport and self._room_worker is None:
                self._room_worker = worker
                self._follow_transport(transport)
                self._follow_worker(worker)

    async def finish(self, goodbye: bool) -> None:
        """End the conversation's pipeline once it has said what it is saying, or the goodbye instead."""
        self._closing = True
        if self._room_worker is None:
            await self.cancel()
            return
        farewell: list[Frame] = [InterruptionFrame(), TTSSpeakFrame(GOODBYE)] if goodbye else []
        await self._room_worker.queue_frames([*farewell, EndFrame()])

    async def cancel(self) -> None:
        """End everything at once."""
        self._closing = True
        for worker in self._workers:
            await worker.cancel(reason="session ended")
        for runner in self._runners:
            await runner.cancel(reason="session ended")

    def _refuse_when_closing(self) -> None:
        # Pipecat logs an Exception and goes on; a cancellation it obeys.
        if self._closing:
            raise asyncio.CancelledError

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tell(HookFailed(f"The host could not attach to the bot's pipeline: {error}"))
            raise

    def _listen_for_failing_hooks(self) -> None:
        """Pipecat only logs that a hook failed. Ours is the first to run: the bot author's come after it.

        Every time anew, because a bot may have removed all the logger's sinks.
        """
        if self._hook_log is not None:
            with contextlib.suppress(ValueError):
                logger.remove(self._hook_log)
        self._hook_log = logger.add(self._hook_failed, filter="pipecat.utils.startup", level="ERROR")

    def _hook_failed(self, message: "Message") -> None:
        self._tell(HookFailed(f"A file of PIPECAT_SETUP_FILES failed: {message.record['message']}"))

    def _follow_transport(self, transport: DailyTransport) -> None:
        async def on_joined(_: Any, data: Any) -> None:
            self._tell(Joined())
            for participant in data["participants"]:
                if participant != "local":
                    self._tell(UserJoined(participant))

        async def on_error(_: Any, error: Any) -> None:
            self._tell(TransportFailed(str(error)))

        async def on_before_leave(_: Any) -> None:
            self._tell(LeftRoom())

        async def on_call_state_updated(_: Any, state: str) -> None:
            if state == "left":
                self._tell(PutOut())

        async def on_participant_joined(_: Any, participant: Any) -> None:
            self._tell(UserJoined(participant["id"]))

        async def on_participant_left(_: Any, participant: Any, __: Any) -> None:
            self._tell(UserLeft(participant["id"]))

        for handler in (
            on_joined,
            on_error,
            on_before_leave,
            on_call_state_updated,
            on_participant_joined,
            on_participant_left,
        ):
            transport.add_event_handler(handler.__name__, handler)

    def _follow_worker(self, worker: PipelineWorker) -> None:
        async def on_pipeline_error(_: Any, frame: ErrorFrame) -> None:
            if frame.fatal or (frame.processor and not frame.processor.is_usable):
                self._tell(Trouble(f"{frame.processor} can no longer do its job: {frame.error}"))

        async def on_pipeline_finished(_: Any, frame: Frame) -> None:
            self._tell(PipelineFinished(isinstance(frame, CancelFrame) and frame.reason == _PIPECAT_IDLE))

        async def on_setup_timeout(_: Any) -> None:
            self._tell(PipelineStuck("The bot's pipeline was not set up in time: a part of it could not connect."))

        async def on_pipeline_timeout(_: Any, frame: Frame) -> None:
            if isinstance(frame, StartFrame):
                self._tell(PipelineStuck("The bot's pipeline did not start in time: a part of it is blocked."))

        for handler in (on_pipeline_error, on_pipeline_finished, on_setup_timeout, on_pipeline_timeout):
            worker.add_event_handler(handler.__name__, handler)
        worker.add_observer(_SpeechObserver(self._tell))


def _daily_transports(processor: FrameProcessor) -> Iterator[DailyTransport]:
    # Pipecat offers no public way from a pipeline to its transport.
    transport = getattr(processor, "_transport", None)
    if isinstance(transport, DailyTransport):
        yield transport
    for inner in processor.processors:
        yield from _daily_transports(inner)


_current: Attachment | None = None


def attach(attachment: Attachment) -> None:
    """Make it the one that the hooks find: one process, one session."""
    global _current  # noqa: PLW0603 - Pipecat imports the hooks' file by itself: there is nobody to hand it over
    _current = attachment


def current() -> Attachment:
    """The session's."""
    if _current is None:
        raise RuntimeError("pipecat_bot's hooks only work under `python -m pipecat_bot`")
    return _current
