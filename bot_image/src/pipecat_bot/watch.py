"""What the host hears of a pipeline: the transport's events, and frames that tell of speech. Works for any bot."""

import time
from collections.abc import Callable
from typing import Any, Final

from pipecat.frames.frames import (
    BotSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.transports.daily.transport import DailyTransport

from pipecat_bot.lifecycle import Lifecycle

SPEECH: Final[tuple[type[Frame], ...]] = (
    BotSpeakingFrame,
    BotStoppedSpeakingFrame,
    UserSpeakingFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
DISCONNECTED: Final = "Disconnected from"
"""How DailyTransport's error begins when the call ended underneath it."""


class NoDailyTransport(Exception):
    """The pipeline has none, so nobody can tell when the bot is in the room."""


def watch(worker: Any, life: Lifecycle, told: Callable[[], None]) -> None:
    """Feed ``life`` from the worker's pipeline; ``told`` is called after each event.

    Raises:
        NoDailyTransport: the host can't tell when such a bot is in the room.
    """
    transport = _transport(worker.pipeline)
    worker.add_observer(_Speech(life))

    def on(name: str, do: Callable[..., None], source: Any = transport) -> None:
        async def handler(_: Any, *arguments: Any) -> None:
            do(*arguments)
            told()

        source.add_event_handler(name, handler)

    def joined(data: Any) -> None:
        life.joined(time.monotonic())
        for participant in (data or {}).get("participants", {}):
            if participant != "local":
                life.user_joined(participant, time.monotonic())

    def error(message: str) -> None:
        if str(message).startswith(DISCONNECTED):
            life.disconnected()
        else:
            life.error(str(message))

    def pipeline_error(frame: Any) -> None:
        if frame.fatal:
            life.failed(str(frame.error))

    on("on_joined", joined)
    on("on_participant_joined", lambda who: life.user_joined(who["id"], time.monotonic()))
    on("on_participant_left", lambda who, _reason: life.user_left(who["id"]))
    on("on_error", error)
    on("on_pipeline_error", pipeline_error, worker)
    on("on_idle_timeout", life.idle, worker)


def _transport(pipeline: Any) -> DailyTransport:
    waiting = list(pipeline.processors)
    while waiting:
        processor = waiting.pop()
        transport = getattr(processor, "_transport", None)
        if isinstance(transport, DailyTransport):
            return transport
        waiting += getattr(processor, "processors", [])
    raise NoDailyTransport("The bot's pipeline has no DailyTransport: build it from runner_args.room_url and token.")


class _Speech(BaseObserver):
    def __init__(self, life: Lifecycle) -> None:
        super().__init__()
        self._life = life

    async def on_push_frame(self, data: FramePushed) -> None:
        if isinstance(data.frame, SPEECH):
            self._life.spoken(time.monotonic())
