"""A bot that knows Pipecat only. It says (into its log) what it is told to say."""

import sys

from pipecat.frames.frames import Frame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import DailyRunnerArguments
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner


class Sayer(FrameProcessor):
    """Instead of a voice."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            print(f"says: {frame.text}", file=sys.stderr)
        await self.push_frame(frame, direction)


async def bot(runner_args: DailyRunnerArguments) -> None:
    """Until it is told to end: it handles neither signals nor leaving users."""
    print(f"session {runner_args.session_id} body {runner_args.body}", file=sys.stderr)
    transport = DailyTransport(
        runner_args.room_url, runner_args.token, "Plain", DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    )
    runner = WorkerRunner()
    await runner.add_workers(PipelineWorker(Pipeline([transport.input(), Sayer(), transport.output()])))
    await runner.run()
    print("the bot's own last line", file=sys.stderr)
