"""A stand-in for daily-python's module: as much of it as Pipecat's DailyTransport and our caller use.

Put first on PYTHONPATH, it lets an unmodified DailyTransport join the rooms of ``pipecat_local.daily``. One thread
a client runs its WebSocket; events and sound are handed to the user from that thread, as daily-python does.
"""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp
import soxr

TICK_S = 0.02
JITTER_S = 0.06
"""Sound that is waited for before it is played on, so that the network may be uneven."""
RELEASE_S = 2.0
PAUSE_S = 0.6
"""A speaker who writes nothing for so long pauses; until then a listener waits for late sound, and hears no gap."""
UTTERANCE_S = 0.5
"""A single write as long as this is a whole utterance."""
PATIENCE_S = 2.0
"""How long a listener waits for a speaker who neither speaks on nor pauses."""
BACKLOG_S = 4.0
"""Older sound is dropped: a listener that was held up hears on from now."""

Completion = Callable[..., None] | None


class LogLevel(Enum):
    """daily-python's."""

    Off = 0
    Error = 1
    Warn = 2
    Info = 3
    Debug = 4
    Trace = 5


@dataclass(frozen=True)
class AudioData:
    """A piece of sound."""

    audio_frames: bytes
    sample_rate: int
    num_channels: int = 1
    bits_per_sample: int = 16

    @property
    def num_audio_frames(self) -> int:
        """Samples."""
        return len(self.audio_frames) // 2


class VideoFrame:
    """No video here."""


class VirtualSpeakerDevice:
    """Not offered: Pipecat hears each participant by a renderer of its own."""


class EventHandler:
    """Base of those who want events; every handler does nothing until overridden."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(name)


class Daily:
    """Global functions."""

    @staticmethod
    def init(*_: Any, **__: Any) -> None:
        """Nothing to do."""

    @staticmethod
    def deinit() -> None:
        """Nothing to do."""

    @staticmethod
    def set_log_level(level: LogLevel) -> None:
        """There is no log."""

    @staticmethod
    def create_speaker_device(*_: Any, **__: Any) -> VirtualSpeakerDevice:
        """Needs WebRTC."""
        raise NotImplementedError("The Daily stand-in has no virtual speaker: set audio_in_user_tracks=True.")

    @staticmethod
    def create_native_vad(*_: Any, **__: Any) -> None:
        """Needs WebRTC."""
        raise NotImplementedError("The Daily stand-in has no native VAD: use SileroVADAnalyzer.")


class CustomAudioSource:
    """Sound that a client sends, at the pace at which it is heard."""

    def __init__(self, sample_rate: int, channels: int, auto_silence: bool = True) -> None:
        self.sample_rate = sample_rate
        self.channels = channels
        self._client: CallClient | None = None
        self._played_until = 0.0

    def write_frames(self, frames: bytes, completion: Completion = None) -> int:
        """Send; ``completion`` is called with the number of frames once they were heard."""
        count = len(frames) // (2 * self.channels)
        if self._client is None or not self._client.connected:
            if completion:
                completion(0)
            return 0
        self._client.schedule(self._play(frames, count, completion))
        return count

    async def _play(self, frames: bytes, count: int, completion: Completion) -> None:
        now = time.monotonic()
        # A writer that comes a moment late goes on where it ended: no gap is heard.
        start = self._played_until if now - self._played_until < PAUSE_S else now
        duration = count / self.sample_rate
        self._played_until = start + duration
        size = int(TICK_S * self.sample_rate) * 2 * self.channels
        for number, offset in enumerate(range(0, len(frames), size)):
            await asyncio.sleep(max(0.0, start + number * TICK_S - time.monotonic()))
            await self._send(frames[offset : offset + size])
        await asyncio.sleep(max(0.0, self._played_until - time.monotonic()))
        if completion:
            completion(count)
        # Whoever hands over a whole utterance has said it all; one who writes piece by piece may only be late.
        await asyncio.sleep(0.0 if duration >= UTTERANCE_S else PAUSE_S)
        if time.monotonic() >= self._played_until + (0.0 if duration >= UTTERANCE_S else PAUSE_S):
            await self._send(b"")

    async def _send(self, sound: bytes) -> None:
        """Nothing: the speaker pauses."""
        if self._client:
            await self._client.send_sound(self.sample_rate, sound)


class CustomAudioTrack:
    """A source as a track."""

    def __init__(self, source: CustomAudioSource) -> None:
        self.id = str(uuid.uuid4())
        self.source = source
        _tracks[self.id] = self


class CustomVideoSource:
    """Not offered."""

    def __init__(self, *_: Any) -> None:
        raise NotImplementedError("The Daily stand-in has no video.")


class CustomVideoTrack(CustomVideoSource):
    """Not offered."""


_tracks: dict[str, CustomAudioTrack] = {}


@dataclass
class _Renderer:
    """What one participant's sound goes to, in pieces of ``interval_s``, silence where nothing came."""

    participant: str
    callback: Callable[[str, AudioData, str], None]
    source: str
    sample_rate: int
    interval_s: float
    waiting: bytearray = field(default_factory=bytearray)
    playing: bool = False
    paused: bool = True
    heard_at: float = 0.0
    resamplers: dict[int, soxr.ResampleStream] = field(default_factory=dict)

    def hear(self, rate: int, sound: bytes) -> None:
        self.heard_at = time.monotonic()
        self.paused = not sound
        if not sound:
            return
        import numpy as np  # noqa: PLC0415 - 70 ms that a pipeline pays for anyway, after joining

        if rate != self.sample_rate:
            if rate not in self.resamplers:
                self.resamplers[rate] = soxr.ResampleStream(rate, self.sample_rate, 1, dtype="int16", quality="QQ")
            sound = self.resamplers[rate].resample_chunk(np.frombuffer(sound, np.int16)).tobytes()
        self.waiting += sound
        most = int(BACKLOG_S * self.sample_rate) * 2
        if len(self.waiting) > most:
            del self.waiting[: len(self.waiting) - most]

    def tick(self) -> None:
        size = int(self.sample_rate * self.interval_s) * 2
        if not self.playing and (len(self.waiting) >= int(JITTER_S * self.sample_rate) * 2 or self.paused):
            self.playing = bool(self.waiting)
        if self.playing and len(self.waiting) < size and not self.paused:
            if time.monotonic() - self.heard_at < PATIENCE_S:
                # Late, not silent: the listener's time stands still, as in a file that is still being written.
                return
            self.paused = True
        piece = b""
        if self.playing:
            piece = bytes(self.waiting[:size])
            del self.waiting[:size]
            self.playing = bool(self.waiting) or not self.paused
        self.callback(self.participant, AudioData(piece.ljust(size, b"\0"), self.sample_rate), self.source)


class CallClient:
    """One participant."""

    def __init__(self, event_handler: EventHandler | None = None) -> None:
        self._handler = event_handler or EventHandler()
        self._loop = asyncio.new_event_loop()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._participants: dict[str, dict[str, Any]] = {}
        self._renderers: dict[tuple[str, str], _Renderer] = {}
        self._answers: dict[str, Completion] = {}
        self._user_name = "guest"
        self._thread = threading.Thread(target=self._run_loop, name="daily", daemon=True)
        self._thread.start()

    # What DailyTransport calls

    def set_user_name(self, name: str) -> None:
        """Shown to the others."""
        self._user_name = name

    def join(
        self,
        meeting_url: str,
        meeting_token: str | None = None,
        client_settings: Mapping[str, Any] | None = None,
        completion: Completion = None,
    ) -> None:
        """``completion(data, error)``."""
        microphone = ((client_settings or {}).get("inputs") or {}).get("microphone") or {}
        wanted = microphone.get("settings") if isinstance(microphone, Mapping) else None
        track = _tracks.get(((wanted or {}).get("customTrack") or {}).get("id", ""))
        if track:
            track.source._client = self
        self.schedule(self._run(meeting_url, meeting_token, completion))

    def leave(self, completion: Completion = None) -> None:
        """``completion(error)``."""
        self.schedule(self._leave(completion))

    def release(self) -> None:
        """End the client, its thread and its connection."""
        if not self._thread.is_alive():
            return
        leaving = asyncio.run_coroutine_threadsafe(self._leave(None), self._loop)
        with contextlib.suppress(TimeoutError):
            leaving.result(RELEASE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(RELEASE_S)

    def participants(self) -> dict[str, Any]:
        """``local`` and the others by id."""
        return dict(self._participants)

    def participant_counts(self) -> dict[str, int]:
        """Present and hidden."""
        return {"present": len(self._participants), "hidden": 0}

    def set_audio_renderer(
        self,
        participant_id: str,
        callback: Callable[[str, AudioData, str], None],
        audio_source: str = "microphone",
        sample_rate: int = 48000,
        callback_interval_ms: int = 10,
    ) -> None:
        """Hear one participant."""
        self._renderers[participant_id, audio_source] = _Renderer(
            participant_id, callback, audio_source, sample_rate, callback_interval_ms / 1000
        )

    def send_app_message(self, message: Any, participant: str | None = None, completion: Completion = None) -> None:
        """To one, or to all."""
        self.schedule(self._send({"type": "app-message", "to": participant, "data": message}, completion))

    def start_transcription(self, settings: Any = None, completion: Completion = None) -> None:
        """By an owner."""
        self._ask("start-transcription", completion)

    def stop_transcription(self, participant_id: str | None = None, completion: Completion = None) -> None:
        """By an owner."""
        self._ask("stop-transcription", completion)

    def update_transcription(
        self, participants: list[str] | None = None, instance_id: str | None = None, completion: Completion = None
    ) -> None:
        """Whom to transcribe; None: everybody."""
        self.schedule(self._send({"type": "update-transcription", "participants": participants}, completion))

    def __getattr__(self, name: str) -> Any:
        """Everything else (subscriptions, publishing, ...) changes nothing here, and is told so at once."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name.startswith(("update_", "set_")):
            return _done
        raise NotImplementedError(f"The Daily stand-in's CallClient has no {name}().")

    # The other half of this module

    def _run_loop(self) -> None:
        """The thread: until released, then tidy."""
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._tidy())
            self._loop.close()

    @staticmethod
    async def _tidy() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connected(self) -> bool:
        """In the call."""
        return self._socket is not None and not self._socket.closed

    def schedule(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """On the client's thread."""
        if self._loop.is_closed():
            coroutine.close()
            return
        asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def send_sound(self, rate: int, sound: bytes) -> None:
        """16-bit mono."""
        if self._socket and self.connected:
            with contextlib.suppress(ConnectionError):
                await self._socket.send_bytes(rate.to_bytes(4, "little") + sound)

    def _ask(self, kind: str, completion: Completion) -> None:
        number = str(uuid.uuid4())
        self._answers[number] = completion
        self.schedule(self._send({"type": kind, "id": number}))

    async def _send(self, message: dict[str, Any], completion: Completion = None) -> None:
        error = None
        try:
            if self._socket is None:
                error = "not in a call"
            else:
                await self._socket.send_str(json.dumps(message))
        except (ConnectionError, TypeError) as problem:
            error = str(problem)
        if completion:
            completion(error)

    async def _run(self, url: str, token: str | None, completion: Completion) -> None:
        ticking: asyncio.Task[None] | None = None
        try:
            async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}/join", max_msg_size=1 << 20) as socket:
                await socket.send_json({"token": token, "user_name": self._user_name})
                first = await socket.receive_json()
                if first["type"] == "error":
                    self._complete(completion, None, first["message"])
                    return
                self._socket = socket
                self._participants = {p["id"]: p for p in first["participants"]} | {"local": first["local"]}
                ticking = asyncio.create_task(self._tick())
                data = {"participants": self.participants(), "meetingSession": {"id": str(uuid.uuid4())}}
                self._complete(completion, data, None)
                completion = None
                self._handler.on_call_state_updated("joined")
                for participant in first["participants"]:
                    self._handler.on_participant_joined(participant)
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.BINARY:
                        self._sound(message.data)
                    else:
                        self._event(json.loads(message.data))
            self._handler.on_call_state_updated("left")
        except (aiohttp.ClientError, TypeError, OSError) as error:
            self._complete(completion, None, f"connection failed: {type(error).__name__}")
        finally:
            if ticking:
                ticking.cancel()
            self._socket = None

    async def _leave(self, completion: Completion) -> None:
        if self._socket and self.connected:
            await self._send({"type": "leave"})
            await self._socket.close()
        self._complete(completion, None)

    async def _tick(self) -> None:
        """Give every renderer its piece each interval, late ones caught up on."""
        next_at = time.monotonic()
        while True:
            next_at += TICK_S
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            for renderer in list(self._renderers.values()):
                for _ in range(max(1, round(TICK_S / renderer.interval_s))):
                    renderer.tick()

    def _sound(self, data: bytes) -> None:
        renderer = self._renderers.get((data[:36].decode(), "microphone"))
        if renderer:
            renderer.hear(int.from_bytes(data[36:40], "little"), data[40:])

    def _event(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "participant-joined":
                self._participants[event["participant"]["id"]] = event["participant"]
                self._handler.on_participant_joined(event["participant"])
            case "participant-left":
                self._participants.pop(event["participant"]["id"], None)
                self._renderers.pop((event["participant"]["id"], "microphone"), None)
                self._handler.on_participant_left(event["participant"], event["reason"])
            case "app-message":
                self._handler.on_app_message(event["data"], event["from"])
            case "transcription-started":
                self._handler.on_transcription_started({"startedBy": event["by"]})
            case "transcription-message":
                self._handler.on_transcription_message(event["message"])
            case "answer":
                self._complete(self._answers.pop(event["id"], None), event.get("error"))
            case "ejected":
                self._handler.on_error(event["message"])

    @staticmethod
    def _complete(completion: Completion, *answer: Any) -> None:
        if completion:
            completion(*answer)


def _done(*_: Any, completion: Completion = None, **__: Any) -> None:
    if completion:
        completion(None)
