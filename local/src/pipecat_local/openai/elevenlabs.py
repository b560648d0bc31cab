"""ElevenLabs' streaming WebSocket, as Pipecat's ElevenLabsTTSService uses it: many contexts, sound, and word times."""

import asyncio
import base64
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any, Final

from aiohttp import WSMsgType, web

from pipecat_local.speech.voice import BOT, Utterance, utter

PREFIX: Final = "/v1/text-to-speech/"
RATES: Final = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def routes(api_key: str | None) -> list[web.RouteDef]:
    """``api_key``: None lets everybody in."""

    async def stream(request: web.Request) -> web.StreamResponse:
        if api_key is not None and request.headers.get("xi-api-key") != api_key:
            return _refused(401, "invalid_api_key", "Invalid API key")
        kind, _, rate = request.query.get("output_format", "pcm_24000").partition("_")
        if kind != "pcm" or rate not in map(str, RATES):
            return _refused(400, "invalid_output_format", "The stand-in speaks pcm_* only.")
        return await _stream(request, int(rate))

    return [web.get(PREFIX + "{voice}/multi-stream-input", stream)]


async def _stream(request: web.Request, rate: int) -> web.WebSocketResponse:
    """A context's text is spoken when it ends a sentence, is flushed or closed; ``close_socket`` ends it all."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    waiting: defaultdict[str, str] = defaultdict(str)
    async for message in socket:
        said = _message(message.data) if message.type is WSMsgType.TEXT else None
        if said is None:
            await socket.close(code=1008, message=b"Expected a JSON object")
            break
        if said.get("close_socket"):
            break
        context = str(said.get("context_id", "default"))
        waiting[context] += str(said.get("text") or "")
        text = waiting[context].strip()
        if text and (said.get("flush") or said.get("close_context") or text.endswith((".", "?", "!"))):
            spoken = await asyncio.to_thread(utter, text, BOT, rate)
            await socket.send_json(_sound(context, text, spoken))
            waiting[context] = ""
        if said.get("close_context"):
            waiting.pop(context, None)
            await socket.send_json({"contextId": context, "isFinal": True})
    await socket.close()
    return socket


def _message(data: str) -> dict[str, Any] | None:
    try:
        said = json.loads(data)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _sound(context: str, text: str, spoken: Utterance) -> dict[str, Any]:
    alignment = aligned(text, spoken)
    return {
        "contextId": context,
        "audio": base64.b64encode(spoken.pcm).decode(),
        "alignment": alignment,
        "normalizedAlignment": alignment,
    }


def aligned(text: str, spoken: Utterance) -> dict[str, list[Any]]:
    """When each character begins, in ms: a word's as it is spoken, those within it spread evenly.

    The text ends in a space, as the real service's does: Pipecat takes it as the end of the last word.
    """
    characters = f"{text} "
    marks = [(word.position, word.start) for word in spoken.words if word.position < len(text)]
    marks = [(0, 0.0), *(mark for mark in marks if mark[0] > 0), (len(characters), spoken.duration)]
    starts = [0.0] * (len(characters) + 1)
    for (first, begins), (after, ends) in pairwise(marks):
        for index in range(first, after + 1):
            starts[index] = begins + (ends - begins) * (index - first) / (after - first)
    begin_ms = [round(start * 1000) for start in starts]
    return {
        "chars": list(characters),
        "charStartTimesMs": begin_ms[:-1],
        "charDurationsMs": [after - before for before, after in pairwise(begin_ms)],
    }


def _refused(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"detail": {"status": code, "message": message}}, status=status)
