"""OpenAI's HTTP API, as much of it as Pipecat's OpenAI services call: it hears, answers from a book, and speaks."""

import asyncio
import io
import json
import time
import uuid
import wave
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from pipecat_local.openai import elevenlabs
from pipecat_local.speech.phrases import Book
from pipecat_local.speech.recogniser import Recogniser
from pipecat_local.speech.voice import BOT, speak

TTS_RATE: Final = 24_000
"""Hz: what OpenAI's ``pcm`` is."""
PIECE: Final = TTS_RATE // 5 * 2
"""Bytes of a fifth of a second: an answer begins to sound before it is whole."""
MAX_UPLOAD: Final = 25 << 20
"""Bytes, as OpenAI's limit."""
SPEEDS: Final = (0.25, 4.0)
PREFIX: Final = "/v1/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """OpenAI's error body, and the status it comes with."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code},
        }


class Server:
    """Recognition and speech run in threads, so that sessions don't wait for each other."""

    def __init__(self, book: Book, recogniser: Recogniser, api_key: str | None) -> None:
        """``api_key``: None lets everybody in."""
        self._book = book
        self._recogniser = recogniser
        self._api_key = api_key

    def app(self) -> web.Application:
        """All routes; ElevenLabs' beside OpenAI's, with the same key."""
        app = web.Application(middlewares=[self._refuse], client_max_size=MAX_UPLOAD)
        app.add_routes(
            [
                web.post(f"{PREFIX}audio/transcriptions", self._transcribe),
                web.post(f"{PREFIX}audio/speech", self._speak),
                web.post(f"{PREFIX}chat/completions", self._chat),
                *elevenlabs.routes(self._api_key),
            ]
        )
        return app

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if not request.path.startswith(elevenlabs.PREFIX):
                self._authenticate(request)
            return await handler(request)
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        except web.HTTPRequestEntityTooLarge:
            too_large = Refused(413, f"Maximum content size limit ({MAX_UPLOAD}) exceeded")
            return web.json_response(too_large.body, status=413)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            unknown = Refused(error.status, f"Invalid URL ({request.method} {request.path})")
            return web.json_response(unknown.body, status=error.status)

    def _authenticate(self, request: web.Request) -> None:
        if self._api_key is None:
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise Refused(401, "You didn't provide an API key in an Authorization header (Bearer YOUR_KEY).")
        if key != self._api_key:
            raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _transcribe(self, request: web.Request) -> web.Response:
        if not request.content_type.startswith("multipart/"):
            raise Refused(400, "Content-Type must be multipart/form-data.")
        form = await request.post()
        _required(form, "model")
        file = _required(form, "file")
        data = file.file.read() if isinstance(file, web.FileField) else b""
        rate, sound = _wav(data)
        text = await asyncio.to_thread(self._recogniser.recognise, sound, rate)
        return web.json_response({"text": text or "", "usage": {"type": "duration", "seconds": len(sound) / 2 / rate}})

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        asked = await _json(request)
        for name in ("model", "voice"):
            _required(asked, name)
        text = _required(asked, "input")
        if not isinstance(text, str):
            raise Refused(400, "Invalid type for 'input': expected a string.", "input", "invalid_type")
        if asked.get("response_format", "mp3") != "pcm":
            message = "The stand-in speaks response_format 'pcm' only."
            raise Refused(400, message, "response_format", "invalid_value")
        speed = asked.get("speed", 1.0)
        if not isinstance(speed, int | float) or not SPEEDS[0] <= speed <= SPEEDS[1]:
            raise Refused(400, "Invalid 'speed': expected a number from 0.25 to 4.0.", "speed", "invalid_value")
        sound = await asyncio.to_thread(speak, text, BOT.at_speed(speed), TTS_RATE)
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        for start in range(0, len(sound), PIECE):
            await response.write(sound[start : start + PIECE])
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await _json(request)
        model, messages = _required(asked, "model"), _required(asked, "messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
            message = "Invalid type for 'messages': expected an array of objects with a 'role'."
            raise Refused(400, message, "messages", "invalid_type")
        text = self._answer(messages)
        usage = {"prompt_tokens": len(messages), "completion_tokens": len(text.split())}
        usage["total_tokens"] = sum(usage.values())
        common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            whole = common | {"object": "chat.completion", "choices": [choice], "usage": usage}
            return web.json_response(whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        for choices in _deltas(text):
            chunk = common | {"object": "chat.completion.chunk", "choices": choices}
            await _event(response, chunk | {"usage": None} if with_usage else chunk)
        if with_usage:
            await _event(response, common | {"object": "chat.completion.chunk", "choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        said = next((_text(m.get("content")) for m in reversed(messages) if m["role"] == "user"), None)
        return self._book.greeting if said is None else self._book.answer_to(said)


def _wav(data: bytes) -> tuple[int, bytes]:
    """Sample rate and samples."""
    try:
        with wave.open(io.BytesIO(data)) as recording:
            form = recording.getsampwidth(), recording.getnchannels()
            rate, sound = recording.getframerate(), recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as error:
        raise Refused(400, "Audio file might be corrupted or unsupported", "file", "invalid_value") from error
    if form != (2, 1):
        raise Refused(400, "The stand-in hears 16-bit mono WAV only.", "file", "invalid_value")
    return rate, sound


def _required(asked: Mapping[str, Any], name: str) -> Any:
    if asked.get(name) is None:
        raise Refused(400, f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    return asked[name]


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        asked = await request.json()
    except ValueError as error:
        raise Refused(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(asked, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return asked


def _deltas(text: str) -> Iterator[list[dict[str, Any]]]:
    """The choices of each chunk: the role, a word at a time, the end."""
    yield [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    for number, word in enumerate(text.split()):
        yield [{"index": 0, "delta": {"content": f" {word}" if number else word}, "finish_reason": None}]
    yield [{"index": 0, "delta": {}, "finish_reason": "stop"}]


def _text(content: Any) -> str:
    """Of a message: a string, or parts of which some are text."""
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())
