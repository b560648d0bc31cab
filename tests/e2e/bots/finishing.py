"""A plain Pipecat bot that says what it has to say and ends the call: greeting, one answer, goodbye."""

import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import BotStoppedSpeakingFrame, EndFrame, Frame, LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import DailyRunnerArguments
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner

UTTERANCES = 2


class Utterances(FrameProcessor):
    """Ends the pipeline once the bot has spoken so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: PipelineWorker | None = None
        self._left = UTTERANCES

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Count."""
        await super().process_frame(frame, direction)
        if isinstance(frame, BotStoppedSpeakingFrame) and direction is FrameDirection.DOWNSTREAM:
            self._left -= 1
            if self._left == 0 and self.worker:
                await self.worker.queue_frame(EndFrame())
        await self.push_frame(frame, direction)


async def bot(runner_args: DailyRunnerArguments) -> None:
    """One call."""
    key = os.environ["OPENAI_API_KEY"]
    transport = DailyTransport(
        runner_args.room_url,
        runner_args.token,
        "Finishing",
        DailyParams(audio_in_enabled=True, audio_out_enabled=True),
    )
    user, assistant = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    utterances = Utterances()
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                OpenAISTTService(api_key=key),
                user,
                OpenAILLMService(api_key=key),
                OpenAITTSService(api_key=key),
                transport.output(),
                utterances,
                assistant,
            ]
        )
    )
    utterances.worker = worker

    @transport.event_handler("on_client_connected")
    async def greet(transport: DailyTransport, client: object) -> None:
        await worker.queue_frames([LLMRunFrame()])

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
