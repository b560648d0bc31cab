"""The OpenAI stand-in, through the openai package that Pipecat uses: it hears, answers, speaks and refuses."""

import asyncio
import base64
import io
import wave
from collections.abc import AsyncIterator
from functools import cache

import aiohttp
import openai
import pytest

from pipecat_local.openai.server import TTS_RATE, Server
from pipecat_local.serving import listen
from pipecat_local.speech.phrases import BOOK, UNLISTED
from pipecat_local.speech.recogniser import RATE, Recogniser
from pipecat_local.speech.voice import CALLER, speak

KEY = "sk-of-this-test"
ENTRY = BOOK.entries[0]


@cache
def ears() -> Recogniser:
    return Recogniser(BOOK.heard_by_bot())


@cache
def ears_of_caller() -> Recogniser:
    return Recogniser(BOOK.heard_by_caller())


@pytest.fixture
async def url() -> AsyncIterator[str]:
    runner, url = await listen(Server(BOOK, ears(), KEY).app(), 0)
    yield url
    await runner.cleanup()


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0) as client:
        yield client


def wav(sound: bytes, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound)
    return out.getvalue()


async def transcribe(client: openai.AsyncOpenAI, data: bytes) -> str:
    file = ("audio.wav", data, "audio/wav")
    return (await client.audio.transcriptions.create(file=file, model="gpt-transcribe", language="en")).text


async def say(client: openai.AsyncOpenAI, text: str, speed: float = 1.0) -> bytes:
    asked = client.audio.speech.with_streaming_response.create(
        input=text, model="gpt-4o-mini-tts", voice="alloy", response_format="pcm", speed=speed
    )
    async with asked as response:
        return b"".join([chunk async for chunk in response.iter_bytes(4800)])


async def test_it_hears(client: openai.AsyncOpenAI) -> None:
    assert await transcribe(client, wav(speak(ENTRY.question, CALLER, RATE))) == ENTRY.question


@pytest.mark.parametrize("sound", [bytes(RATE), speak(UNLISTED[0], CALLER, RATE)], ids=["silence", "unlisted"])
async def test_it_hears_nothing_that_is_not_in_the_book(client: openai.AsyncOpenAI, sound: bytes) -> None:
    assert await transcribe(client, wav(sound)) == ""


async def test_it_speaks(client: openai.AsyncOpenAI) -> None:
    sound = await say(client, ENTRY.answer)
    assert ears_of_caller().recognise(sound, TTS_RATE) == ENTRY.answer


async def test_it_speaks_at_another_speed(client: openai.AsyncOpenAI) -> None:
    assert len(await say(client, ENTRY.answer, speed=0.5)) > 1.5 * len(await say(client, ENTRY.answer))


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (None, BOOK.greeting),
        (ENTRY.question, ENTRY.answer),
        ("who is the owner", BOOK.entries[1].answer),
        ("Hm?", BOOK.sorry),
    ],
)
async def test_it_answers_in_a_stream(client: openai.AsyncOpenAI, said: str | None, answer: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}]
    messages += [{"role": "user", "content": said}] if said else []
    stream = await client.chat.completions.create(
        model="gpt-4.1", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    words = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert "".join(words) == answer
    assert len(words) > 1
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(answer.split())


async def test_the_last_question_counts(client: openai.AsyncOpenAI) -> None:
    messages = [
        {"role": "user", "content": BOOK.entries[1].question},
        {"role": "assistant", "content": BOOK.entries[1].answer},
        {"role": "user", "content": [{"type": "text", "text": ENTRY.question}]},
    ]
    answer = await client.chat.completions.create(model="gpt-4.1", messages=messages)
    assert answer.choices[0].message.content == ENTRY.answer


@pytest.mark.parametrize("key", ["wrong", "sk-of-this"])
async def test_wrong_key(url: str, key: str) -> None:
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await say(client, "Hello.")
    assert refused.value.code == "invalid_api_key"


async def test_no_key_is_asked_for_when_none_is_set() -> None:
    runner, url = await listen(Server(BOOK, ears(), None).app(), 0)
    async with aiohttp.ClientSession() as http, http.post(f"{url}/v1/chat/completions", json={}) as response:
        assert response.status == 400
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("chat/completions", {"model": "gpt-4.1"}, "messages", "missing_required_parameter"),
        ("chat/completions", {"model": "gpt-4.1", "messages": "Hello"}, "messages", "invalid_type"),
        ("chat/completions", ["gpt-4.1"], None, None),
        ("audio/speech", {"model": "tts", "voice": "alloy"}, "input", "missing_required_parameter"),
        ("audio/speech", {"model": "tts", "voice": "alloy", "input": "Hi"}, "response_format", "invalid_value"),
        (
            "audio/speech",
            {"model": "tts", "voice": "alloy", "input": "Hi", "response_format": "pcm", "speed": 9},
            "speed",
            "invalid_value",
        ),
        ("audio/transcriptions", {"model": "gpt-transcribe"}, None, None),
    ],
)
async def test_malformed_requests(url: str, path: str, body: object, param: str | None, code: str | None) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.post(f"{url}/v1/{path}", json=body) as response:
        assert response.status == 400
        error = (await response.json())["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"]


async def test_broken_json_and_unknown_paths(url: str) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as http:
        async with http.post(f"{url}/v1/chat/completions", data=b"{") as response:
            assert response.status == 400
            assert "JSON" in (await response.json())["error"]["message"]
        async with http.get(f"{url}/v1/models") as response:
            assert response.status == 404
            assert "/v1/models" in (await response.json())["error"]["message"]


async def test_no_sound_at_all(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="corrupted or unsupported"):
        await transcribe(client, b"RIFF")


async def test_eight_sessions_are_each_heard_right(client: openai.AsyncOpenAI) -> None:
    questions = BOOK.heard_by_bot()[:8]
    heard = await asyncio.gather(*(transcribe(client, wav(speak(q, CALLER, RATE))) for q in questions))
    assert tuple(heard) == questions


def elevenlabs(url: str) -> str:
    return f"{url}/v1/text-to-speech/some-voice/multi-stream-input?model_id=m&output_format=pcm_24000&auto_mode=true"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Pipecat, about its own classes
async def test_elevenlabs_speaks_with_word_times(url: str) -> None:
    from pipecat.services.elevenlabs.tts_base import calculate_word_times

    headers = {"xi-api-key": KEY}
    async with aiohttp.ClientSession() as http, http.ws_connect(elevenlabs(url), headers=headers) as socket:
        await socket.send_json({"text": " ", "context_id": "a"})
        await socket.send_json({"text": f"{ENTRY.answer} ", "context_id": "a"})
        spoken = await socket.receive_json(timeout=10)
        await socket.send_json({"context_id": "a", "close_context": True})
        final = await socket.receive_json(timeout=10)
        await socket.send_json({"close_socket": True})
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE
    assert spoken["contextId"] == "a"
    assert final == {"contextId": "a", "isFinal": True}
    sound = base64.b64decode(spoken["audio"])
    assert ears_of_caller().recognise(sound, TTS_RATE) == ENTRY.answer
    words, rest, _ = calculate_word_times(spoken["alignment"], 0.0)
    assert [word for word, _ in words] == ENTRY.answer.split()
    assert rest == ""
    times = [at for _, at in words]
    assert times == sorted(times)
    assert 0.2 < times[-1] < len(sound) / 2 / TTS_RATE


async def test_elevenlabs_drops_what_was_interrupted(url: str) -> None:
    headers = {"xi-api-key": KEY}
    async with aiohttp.ClientSession() as http, http.ws_connect(elevenlabs(url), headers=headers) as socket:
        await socket.send_json({"context_id": "a", "close_context": True})
        assert await socket.receive_json(timeout=10) == {"contextId": "a", "isFinal": True}
        await socket.send_json({"text": "Half a sentence", "context_id": "b", "flush": True})
        assert (await socket.receive_json(timeout=10))["contextId"] == "b"
        await socket.send_str("{")
        assert (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSE


async def test_elevenlabs_refuses_a_wrong_key(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(elevenlabs(url), headers={"xi-api-key": "wrong"})
    assert refused.value.status == 401
