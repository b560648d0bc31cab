"""OpenAI's HTTP API as Pipecat's OpenAI services call it, and ElevenLabs' multi-stream-input WebSocket beside it."""

import asyncio
import base64
import io
import json
import time
import uuid
import wave
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import WSMsgType, web

from pipecat_local.speech.phrases import Book
from pipecat_local.speech.recogniser import Recogniser
from pipecat_local.speech.voice import BOT, speak

TTS_RATE: Final = 24000
"""What OpenAI's ``pcm`` is."""
PIECE: Final = TTS_RATE // 5 * 2
"""Bytes of a fifth of a second: an answer begins to sound before it is whole."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadRequest(Exception):
    """OpenAI's 400."""


class Server:
    """The two APIs. Recognition and speech run in threads, so that sessions don't wait for each other."""

    def __init__(self, book: Book, recogniser: Recogniser, api_key: str) -> None:
        self._book = book
        self._recogniser = recogniser
        self._api_key = api_key

    def app(self) -> web.Application:
        """All routes."""
        app = web.Application(middlewares=[self._middleware], client_max_size=26 << 20)
        app.add_routes(
            [
                web.post("/v1/audio/transcriptions", self._transcribe),
                web.post("/v1/audio/speech", self._speak),
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/text-to-speech/{voice}/multi-stream-input", self._elevenlabs),
            ]
        )
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("xi-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        if given != self._api_key:
            return _error(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key")
        try:
            return await handler(request)
        except (BadRequest, ValueError, KeyError) as error:
            return _error(400, "invalid_request_error", str(error) or type(error).__name__, None)

    async def _transcribe(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form.get("file")
        if not isinstance(file, web.FileField):
            raise BadRequest("'file' is a required property")
        try:
            with wave.open(io.BytesIO(file.file.read())) as recording:
                rate, sound = recording.getframerate(), recording.readframes(recording.getnframes())
        except (wave.Error, EOFError) as error:
            raise BadRequest("Invalid file format.") from error
        text = await asyncio.to_thread(self._recogniser.recognise, sound, rate)
        return web.json_response({"text": text or ""})

    async def _speak(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if asked.get("response_format", "mp3") != "pcm":
            raise BadRequest("The stand-in speaks response_format 'pcm' only.")
        sound = await asyncio.to_thread(speak, asked["input"], BOT, TTS_RATE)
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        for start in range(0, len(sound), PIECE):
            await response.write(sound[start : start + PIECE])
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = self._answer(asked["messages"])
        chunk = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": asked["model"],
        }
        usage = {"prompt_tokens": len(asked["messages"]), "completion_tokens": len(text.split())}
        usage["total_tokens"] = sum(usage.values())
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return web.json_response(chunk | {"object": "chat.completion", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        words = [f"{word} " for word in text.split()]
        words[-1] = words[-1].rstrip()
        for word in words:
            delta = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            await _event(response, chunk | {"choices": [delta]})
        await _event(response, chunk | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (asked.get("stream_options") or {}).get("include_usage"):
            await _event(response, chunk | {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    def _answer(self, messages: list[dict[str, Any]]) -> str:
        said = next((_text(m["content"]) for m in reversed(messages) if m.get("role") == "user"), None)
        return self._book.greeting if said is None else self._book.answer_to(said.strip())

    async def _elevenlabs(self, request: web.Request) -> web.WebSocketResponse:
        """One WebSocket, many contexts; a context speaks what it was sent when it is flushed or closed."""
        rate = int(request.query.get("output_format", "pcm_24000").removeprefix("pcm_"))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        texts: defaultdict[str, str] = defaultdict(str)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            said = json.loads(message.data)
            if said.get("close_socket"):
                break
            context = said.get("context_id", "default")
            texts[context] += said.get("text", "")
            if said.get("flush") or said.get("close_context") or texts[context].rstrip().endswith((".", "?", "!")):
                text = texts.pop(context, "").strip()
                if text:
                    sound = await asyncio.to_thread(speak, text, BOT, rate)
                    await socket.send_json(_spoken(context, text, sound, rate))
            if said.get("close_context"):
                await socket.send_json({"contextId": context, "isFinal": True})
        return socket


def _spoken(context: str, text: str, sound: bytes, rate: int) -> dict[str, Any]:
    each = len(sound) / 2 / rate * 1000 / len(text)
    alignment = {
        "chars": list(text),
        "charStartTimesMs": [int(i * each) for i in range(len(text))],
        "charDurationsMs": [int(each)] * len(text),
    }
    return {
        "contextId": context,
        "audio": base64.b64encode(sound).decode(),
        "alignment": alignment,
        "normalizedAlignment": alignment,
    }


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


async def _event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())


def _error(status: int, kind: str, message: str, code: str | None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)
