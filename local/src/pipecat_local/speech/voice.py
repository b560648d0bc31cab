"""A real voice without the internet: text to sound by espeak-ng, called through ctypes.

GPL: for local runs and tests only, never in an image. espeak-ng keeps one global state for a whole process and is
not thread-safe, so every call holds one lock.
"""

import ctypes
import threading
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import espeakng_loader
import numpy as np
import soxr

# From espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAMETER_RATE = 1
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_WORD = 1
_OK = 0
_MIN_WORDS_PER_MINUTE = 80
_MAX_WORDS_PER_MINUTE = 450


@dataclass(frozen=True)
class Voice:
    """An espeak-ng voice by name (a language, optionally `+variant`) and its speed in words a minute."""

    name: str
    words_per_minute: int

    def at_speed(self, factor: float) -> "Voice":
        """This voice `factor` times as fast, within what espeak-ng can speak."""
        words_per_minute = round(self.words_per_minute * factor)
        return Voice(self.name, min(max(words_per_minute, _MIN_WORDS_PER_MINUTE), _MAX_WORDS_PER_MINUTE))


@dataclass(frozen=True)
class SpokenWord:
    """Where a word lies in the text (characters from 0) and when its sound begins (seconds from 0)."""

    position: int
    length: int
    start: float


@dataclass(frozen=True)
class Utterance:
    """Sound as signed 16-bit little-endian mono, and when each word of it begins."""

    pcm: bytes
    sample_rate: int
    words: tuple[SpokenWord, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / 2 / self.sample_rate


CALLER: Final = Voice("en-us+f2", 205)
BOT: Final = Voice("en-us+f2", 175)
"""Both chosen by ``python -m pipecat_local.speech.measure``."""


class VoiceError(Exception):
    """espeak-ng cannot speak with the voice asked for."""


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
_lock = threading.Lock()


class _Engine:
    """The library, initialized once a process; what the callback heard since the last `take`."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.sample_rate: int = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data, 0)
        if self.sample_rate <= 0:
            raise VoiceError("espeak-ng did not start: reinstall the package espeakng-loader")
        self._sound = bytearray()
        self._words: list[SpokenWord] = []
        self._callback = _SynthCallback(self._on_sound)  # referenced here, or it would be collected
        self._library.espeak_SetSynthCallback(self._callback)

    def _on_sound(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if samples:
            self._sound += ctypes.string_at(samples, count * 2)
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            event = events[index]
            if event.type == _EVENT_WORD:
                position = event.text_position - 1  # espeak-ng counts characters from 1
                self._words.append(SpokenWord(position, event.length, event.audio_position / 1000))
            index += 1
        return 0

    def utter(self, text: str, voice: Voice) -> tuple[bytes, tuple[SpokenWord, ...]]:
        self._sound.clear()
        self._words.clear()
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != _OK:
            raise VoiceError(f"espeak-ng has no voice {voice.name!r}")
        self._library.espeak_SetParameter(_PARAMETER_RATE, voice.words_per_minute, 0)
        encoded = text.encode() + b"\0"
        status = self._library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded)), 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        if status != _OK:
            raise VoiceError(f"espeak-ng could not speak {text!r} (status {status})")
        return bytes(self._sound), tuple(self._words)


@cache
def _engine() -> _Engine:
    return _Engine()


@lru_cache(maxsize=256)
def utter(text: str, voice: Voice, sample_rate: int) -> Utterance:
    """Speaks ``text``, and says when each word begins. Kept: espeak-ng's breath is never quite the same twice."""
    with _lock:
        engine = _engine()
        sound, words = engine.utter(text, voice)
    samples = np.frombuffer(sound, dtype=np.int16)
    resampled = soxr.resample(samples, engine.sample_rate, sample_rate)
    return Utterance(resampled.astype("<i2").tobytes(), sample_rate, words)


def speak(text: str, voice: Voice, sample_rate: int) -> bytes:
    """The sound of `text`: signed 16-bit little-endian mono."""
    return utter(text, voice, sample_rate).pcm
