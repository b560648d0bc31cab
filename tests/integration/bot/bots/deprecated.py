"""A bot of Pipecat's older kind: PipelineTask and PipelineRunner, SIGTERM taken by the runner, its own log."""

import sys

from loguru import logger
from pipecat.frames.frames import Frame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineTask
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.daily.transport import DailyParams, DailyTransport

logger.remove(0)
logger.add(sys.stderr, level="DEBUG")


class Sayer(FrameProcessor):
    """Instead of a voice."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            print(f"says: {frame.text}", file=sys.stderr)
        await self.push_frame(frame, direction)


async def bot(runner_args):
    """As many such bots: cancels when a participant leaves."""
    transport = DailyTransport(
        runner_args.room_url, runner_args.token, "Old", DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    )
    task = PipelineTask(Pipeline([transport.input(), Sayer(), transport.output()]))

    @transport.event_handler("on_participant_left")
    async def on_participant_left(transport, participant, reason):
        await task.cancel()

    await PipelineRunner(handle_sigterm=True).run(task)
