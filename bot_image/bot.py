"""The default bot: hears, thinks and speaks with OpenAI; can be interrupted; greets first.

A plain Pipecat bot: copy it and change it. It also runs on Pipecat Cloud and with Pipecat's development runner.

Settings (environment): OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_MODEL, BOT_SYSTEM_PROMPT,
BOT_TRANSCRIPTION=openai|daily, BOT_VOICE=openai|elevenlabs (ELEVENLABS_API_KEY, _VOICE_ID, _API_URL).
A session's body may hold {"system_prompt": "..."}.
"""

import asyncio
import os

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker, ProcessorUnusablePolicy
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

SYSTEM_PROMPT = (
    "You are a friendly assistant on a voice call. Your words are spoken aloud: answer in one or two short "
    "sentences, without lists, emoji or markup. Begin by greeting the caller."
)
DAILY_TRANSCRIBES = os.getenv("BOT_TRANSCRIPTION", "openai") == "daily"
GREET_AFTER_S = 1.0
"""A Pipecat client says when it can hear; a plain Daily page does not and is greeted after this while."""


def transcription() -> list[FrameProcessor]:
    """Speech to text: a processor, or none where Daily transcribes."""
    if DAILY_TRANSCRIBES:
        return []
    from pipecat.services.openai.stt import OpenAISTTService

    return [OpenAISTTService()]


def voice() -> FrameProcessor:
    """Text to speech."""
    if os.getenv("BOT_VOICE", "openai") == "elevenlabs":
        from pipecat.services.elevenlabs.tts import ElevenLabsTTSService

        return ElevenLabsTTSService(
            api_key=os.environ["ELEVENLABS_API_KEY"],
            url=os.getenv("ELEVENLABS_API_URL", "wss://api.elevenlabs.io"),
            settings=ElevenLabsTTSService.Settings(voice=os.environ["ELEVENLABS_VOICE_ID"]),
        )
    from pipecat.services.openai.tts import OpenAITTSService

    return OpenAITTSService()


async def bot(runner_args: DailyRunnerArguments) -> None:
    """One conversation."""
    body = runner_args.body if isinstance(runner_args.body, dict) else {}
    prompt = body.get("system_prompt") or os.getenv("BOT_SYSTEM_PROMPT") or SYSTEM_PROMPT

    transport = DailyTransport(
        runner_args.room_url,
        runner_args.token,
        "Pipecat bot",
        DailyParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            transcription_enabled=DAILY_TRANSCRIBES,
        ),
    )
    llm = OpenAILLMService(
        settings=OpenAILLMService.Settings(model=os.getenv("OPENAI_MODEL", "gpt-4.1"), system_instruction=prompt)
    )
    context = LLMContext()
    user, assistant = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    worker = PipelineWorker(
        Pipeline([transport.input(), *transcription(), user, llm, voice(), transport.output(), assistant]),
        params=PipelineParams(enable_metrics=True, enable_usage_metrics=True),
        # A rejected key or model will not get better: better no bot than a silent one.
        processor_unusable_policy=ProcessorUnusablePolicy.END,
        idle_timeout_secs=runner_args.pipeline_idle_timeout_secs,
    )
    runner = WorkerRunner(handle_sigint=runner_args.handle_sigint, handle_sigterm=runner_args.handle_sigterm)
    greeted = False

    async def greet() -> None:
        nonlocal greeted
        if not greeted:
            greeted = True
            await worker.queue_frame(LLMRunFrame())

    @worker.rtvi.event_handler("on_client_ready")
    async def on_client_ready(rtvi) -> None:
        await greet()

    @transport.event_handler("on_first_participant_joined")
    async def on_first_participant_joined(transport, participant) -> None:
        if DAILY_TRANSCRIBES:
            await transport.capture_participant_transcription(participant["id"])
        await asyncio.sleep(GREET_AFTER_S)
        await greet()

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport, participant) -> None:
        if len(transport.participants()) <= 1:  # the bot itself
            await runner.cancel()

    await runner.add_workers(worker)
    await runner.run()
