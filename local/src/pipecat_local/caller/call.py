"""One call, through the stand-in ``daily`` package: what is said and heard, on one time line."""

import asyncio
import sys
import time
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pipecat_local.serving import PYTHONPATH

sys.path.insert(0, str(PYTHONPATH))
from daily import AudioData, CallClient, CustomAudioSource, CustomAudioTrack, EventHandler

RATE: Final = 16000
PIECE_S: Final = 0.02
_SAMPLE: Final = 2


class Call(EventHandler):
    """Events come on the client's thread; everything awaited here is on the caller's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = CallClient(event_handler=self)
        self._source = CustomAudioSource(RATE, 1)
        self._track = CustomAudioTrack(self._source)
        self._began = 0.0
        self._said = bytearray()
        self._heard = bytearray()
        self.bot: str | None = None
        self.ended = asyncio.Event()
        """The call is over: the bot left, or we were put out."""
        self.changed = asyncio.Event()
        self.messages: list[tuple[float, dict[str, Any]]] = []
        """RTVI messages with when they came, in seconds of the call."""

    async def join(self, url: str, token: str | None) -> str | None:
        """Answers the error, if any."""
        joined: asyncio.Future[str | None] = self._loop.create_future()

        def completion(_: Any, error: str | None) -> None:
            self._loop.call_soon_threadsafe(joined.set_result, error)

        self._began = time.monotonic()
        settings = {"inputs": {"microphone": {"isEnabled": True, "settings": {"customTrack": {"id": self._track.id}}}}}
        self._client.join(url, token, client_settings=settings, completion=completion)
        return await asyncio.wait_for(joined, 15)

    async def leave(self) -> None:
        """Leave, and be gone."""
        left = asyncio.Event()
        self._client.leave(completion=self._done(left))
        await asyncio.wait_for(left.wait(), 10)
        self._client.release()

    def now(self) -> float:
        """Seconds of the call."""
        return time.monotonic() - self._began

    def send(self, message: dict[str, Any]) -> None:
        """An RTVI message to everybody."""
        self._client.send_app_message({"label": "rtvi-ai", **message})

    async def say(self, sound: bytes) -> float:
        """Speak; answers when, in seconds of the call, the last of it was heard."""
        place(self._said, self.now(), sound)
        played = asyncio.Event()
        self._source.write_frames(sound, self._done(played))
        await played.wait()
        return self.now()

    def heard_since(self, seconds: float) -> bytes:
        """The bot's sound from that moment on."""
        return bytes(self._heard[int(seconds * RATE) * _SAMPLE :])

    def message(self, kind: str, since: float) -> float | None:
        """When the last RTVI message of that type came, if after ``since``."""
        return next((at for at, m in reversed(self.messages) if m.get("type") == kind and at >= since), None)

    def record(self, file: Path) -> None:
        """A stereo WAV: the caller left, the bot right."""
        length = max(len(self._said), len(self._heard))
        left, right = self._said.ljust(length, b"\0"), self._heard.ljust(length, b"\0")
        frames = bytearray(length * 2)
        for offset in range(_SAMPLE):
            frames[offset::4] = left[offset::_SAMPLE]
            frames[_SAMPLE + offset :: 4] = right[offset::_SAMPLE]
        with wave.open(str(file), "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(_SAMPLE)
            out.setframerate(RATE)
            out.writeframes(bytes(frames))

    # Events, on the client's thread

    def on_participant_joined(self, participant: Mapping[str, Any]) -> None:
        """The first to come, or to be there, is the bot."""
        if self.bot is None:
            self.bot = participant["id"]
            self._client.set_audio_renderer(self.bot, self._sound, sample_rate=RATE, callback_interval_ms=20)
            self._tell()

    def on_participant_left(self, participant: Mapping[str, Any], _: str) -> None:
        """The bot's leaving ends the call."""
        if participant["id"] == self.bot:
            self._loop.call_soon_threadsafe(self.ended.set)
            self._tell()

    def on_call_state_updated(self, state: str) -> None:
        """Put out, or left."""
        if state == "left":
            self._loop.call_soon_threadsafe(self.ended.set)
            self._tell()

    def on_app_message(self, message: Any, _: str) -> None:
        """RTVI, mostly."""
        if isinstance(message, dict):
            self.messages.append((self.now(), message))
            self._tell()

    def _sound(self, _: str, data: AudioData, __: str) -> None:
        if any(data.audio_frames):
            # What is said is never torn apart: time that was lost on the way is made up in the next silence.
            self._heard.extend(data.audio_frames)
        else:
            place(self._heard, self.now() - PIECE_S, data.audio_frames)

    def _done(self, event: asyncio.Event) -> Callable[[Any], None]:
        """A completion that sets the event, from any thread."""

        def completion(_: Any) -> None:
            self._loop.call_soon_threadsafe(event.set)

        return completion

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self.changed.set)


def place(track: bytearray, at_s: float, sound: bytes) -> None:
    """Append where the time line says, silence between; sound that comes early follows what is there."""
    start = int(at_s * RATE) * _SAMPLE
    # Pieces come a few milliseconds early or late: only a real gap is one.
    if start - len(track) > int(0.1 * RATE) * _SAMPLE:
        track.extend(bytes(start - len(track)))
    track.extend(sound)
