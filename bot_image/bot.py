"""A voice chatbot: listens, thinks, speaks; greets first; can be interrupted."""

import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import DailyRunnerArguments
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner

INSTRUCTIONS = (
    "You are a friendly assistant in a phone call. Your words are spoken aloud: answer in one or two short "
    "sentences, without lists or symbols. Begin by greeting the caller."
)


def transcription() -> list[FrameProcessor]:
    """BOT_TRANSCRIPTION=openai (the default); with daily, the transport itself transcribes."""
    if os.getenv("BOT_TRANSCRIPTION", "openai") == "daily":
        return []
    from pipecat.services.openai.stt import OpenAISTTService  # noqa: PLC0415 - only what is used is imported

    return [OpenAISTTService(api_key=os.environ["OPENAI_API_KEY"])]


def voice() -> FrameProcessor:
    """BOT_VOICE=openai (the default) or elevenlabs."""
    if os.getenv("BOT_VOICE", "openai") == "elevenlabs":
        from pipecat.services.elevenlabs.tts import ElevenLabsTTSService  # noqa: PLC0415

        return ElevenLabsTTSService(
            api_key=os.environ["ELEVENLABS_API_KEY"],
            url=os.getenv("ELEVENLABS_API_URL", "wss://api.elevenlabs.io"),
            settings=ElevenLabsTTSService.Settings(voice=os.environ["ELEVENLABS_VOICE_ID"]),
        )
    from pipecat.services.openai.tts import OpenAITTSService  # noqa: PLC0415

    return OpenAITTSService(api_key=os.environ["OPENAI_API_KEY"])


async def bot(runner_args: DailyRunnerArguments) -> None:
    """One call."""
    body = runner_args.body or {}
    transport = DailyTransport(
        runner_args.room_url,
        runner_args.token,
        body.get("bot_name", "Assistant"),
        DailyParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            transcription_enabled=os.getenv("BOT_TRANSCRIPTION") == "daily",
        ),
    )
    llm = OpenAILLMService(
        api_key=os.environ["OPENAI_API_KEY"],
        settings=OpenAILLMService.Settings(
            model=os.getenv("OPENAI_MODEL", "gpt-4.1"),
            system_instruction=body.get("system_prompt", INSTRUCTIONS),
        ),
    )
    context = LLMContext()
    user, assistant = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline([transport.input(), *transcription(), user, llm, voice(), transport.output(), assistant])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(enable_metrics=True),
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )

    @transport.event_handler("on_client_connected")
    async def greet(transport, client) -> None:
        await transport.capture_participant_transcription(client["id"])
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")
    async def leave(transport, client) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint, handle_sigterm=runner_args.handle_sigterm)
    await runner.add_workers(worker)
    await runner.run()
