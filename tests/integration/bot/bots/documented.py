"""A bot with the routes of Pipecat Cloud's documented Session API example: context, a line to say, what it knows."""

from typing import Any

from pipecatcloud_system import app  # isort: skip - first, as documented

from fastapi import HTTPException
from pipecat.frames.frames import Frame, LLMMessagesAppendFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner
from pydantic import BaseModel

context = LLMContext()
caller: dict[str, str | None] = {"user_name": None}
pipeline_worker: PipelineWorker | None = None


class ContextUpdate(BaseModel):
    """Who calls."""

    user_name: str
    preferences: dict[str, Any]


class SpeakRequest(BaseModel):
    """What is to be said."""

    message: str


class Voice(FrameProcessor):
    """Instead of one: what is said is an answer in the context."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            context.add_message({"role": "assistant", "content": frame.text})
        await self.push_frame(frame, direction)


def running() -> PipelineWorker:
    """The pipeline's worker."""
    if pipeline_worker is None:
        raise HTTPException(503, "The call has not begun.")
    return pipeline_worker


@app.post("/context")
async def update_context(update: ContextUpdate):
    told = f"{update.user_name} is calling, and likes {update.preferences}."
    messages = [{"role": "developer", "content": told}]
    await running().queue_frame(LLMMessagesAppendFrame(messages, run_llm=False))
    caller["user_name"] = update.user_name
    return {"status": "context updated", "user_name": update.user_name}


@app.post("/speak")
async def speak(asked: SpeakRequest):
    await running().queue_frame(TTSSpeakFrame(asked.message))
    return {"queued": True, "message": asked.message}


@app.get("/status")
async def status():
    return {"message_count": len(context.get_messages()), "user_name": caller["user_name"]}


@app.get("/messages")
async def messages():
    """No part of the example: what reached the pipeline."""
    return context.get_messages()


async def bot(args: RunnerArguments):
    """One worker, run to its end."""
    global pipeline_worker  # noqa: PLW0603 - as documented: a pod has one session
    transport = DailyTransport(
        args.room_url, args.token, "Documented", DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    )
    told = LLMContextAggregatorPair(context)
    pipeline_worker = PipelineWorker(
        Pipeline([transport.input(), told.user(), Voice(), transport.output(), told.assistant()])
    )
    await WorkerRunner().run(pipeline_worker)
    pipeline_worker = None
