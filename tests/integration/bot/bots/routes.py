"""A bot written for Pipecat Cloud, with HTTP routes of its own: they read what it knows and make it speak."""

import asyncio
import contextlib
import sys
import time

from fastapi import WebSocket
from loguru import logger
from pipecat.frames.frames import Frame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.daily.transport import DailyParams, DailyTransport
from pipecat.workers.runner import WorkerRunner
from pipecatcloud.agent import DailySessionArguments
from pydantic import BaseModel

from pipecatcloud_system import app

worker: PipelineWorker | None = None
session: dict[str, object] = {}
said: "asyncio.Queue[str]" = asyncio.Queue()


@contextlib.asynccontextmanager
async def lifespan(_):
    yield
    print("the app's own last line", file=sys.stderr)


app.router.lifespan_context = lifespan


class Line(BaseModel):
    """What is to be said."""

    text: str


class Sayer(FrameProcessor):
    """Instead of a voice."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            print(f"says {len(frame.text)} characters", file=sys.stderr)
            await said.put(frame.text)
        await self.push_frame(frame, direction)


@app.get("/status")
async def status():
    return {**session, "in pipeline": worker is not None, "loop": id(asyncio.get_running_loop())}


@app.post("/speak")
async def speak(line: Line):
    await worker.queue_frame(TTSSpeakFrame(line.text))
    return {"said": await said.get()}


@app.put("/length")
async def length(body: dict):
    return {"length": len(body["text"])}


@app.get("/never")
async def never():
    print("asked for ever", file=sys.stderr)
    await asyncio.Event().wait()


@app.get("/blocks")
def blocks():
    print("asked for ever", file=sys.stderr)
    time.sleep(600)


@app.get("/broken")
async def broken():
    raise RuntimeError("a route of the bot's broke")


@app.websocket("/lines")
async def lines(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await worker.queue_frame(TTSSpeakFrame(text))
        await socket.send_text(f"said: {await said.get()}")


async def bot(args: DailySessionArguments):
    """Until it is told to end."""
    global worker  # noqa: PLW0603 - the pattern of Pipecat Cloud's documentation
    session.update(session_id=args.session_id, body=args.body, bot_loop=id(asyncio.get_running_loop()))
    transport = DailyTransport(
        args.room_url, args.token, "Routes", DailyParams(audio_in_enabled=True, audio_out_enabled=True)
    )
    worker = PipelineWorker(Pipeline([transport.input(), Sayer(), transport.output()]))
    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()
    logger.info("The bot's own last line")
