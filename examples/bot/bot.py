"""A shop's assistant on a voice call. A plain Pipecat bot: nothing in it knows of Kubernetes or of the host it runs in.

OPENAI_API_KEY comes from the environment; a session's body may hold {"shop": "..."}.
"""

from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker, ProcessorUnusablePolicy
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.types import DailyRunnerArguments
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner

PROMPT = "You are on a voice call for {shop}. Greet the caller, then answer in one or two short spoken sentences."


async def bot(runner_args: DailyRunnerArguments) -> None:
    """One conversation, from the first hello until the host ends it."""
    shop = runner_args.body.get("shop", "a garden shop")
    logger.info(f"Session {runner_args.session_id} is about {shop}")

    transport = DailyTransport(
        runner_args.room_url,
        runner_args.token,
        "Shop assistant",
        DailyParams(audio_in_enabled=True, audio_out_enabled=True),
    )
    prompt = PROMPT.format(shop=shop)
    user, assistant = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                OpenAISTTService(),
                user,
                OpenAILLMService(settings=OpenAILLMService.Settings(system_instruction=prompt)),
                OpenAITTSService(),
                transport.output(),
                assistant,
            ]
        ),
        # A bot that can't hear, think or speak ends, and its session says why.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport: DailyTransport, participant: object) -> None:
        await worker.queue_frame(LLMRunFrame())

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint, handle_sigterm=runner_args.handle_sigterm)
    await runner.add_workers(worker)
    await runner.run()
