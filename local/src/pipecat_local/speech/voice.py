"""espeak-ng by ctypes: text to 16-bit mono sound. (GPL: for local runs and tests only, never in an image.)"""

import ctypes
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import espeakng_loader
import numpy as np
import soxr

_RETRIEVAL: Final = 1
_UTF8: Final = 1
_RATE: Final = 1
_lock = threading.Lock()
"""espeak-ng has one global state."""

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class Voice:
    """An espeak-ng voice and its speed."""

    name: str
    words_per_minute: int


CALLER: Final = Voice("en-us+f3", 175)
"""Chosen by ``python -m pipecat_local.speech.measure``: recognised, and judged complete by Smart Turn."""
BOT: Final = Voice("en-us+f2", 150)


class _Engine:
    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate = self._library.espeak_Initialize(_RETRIEVAL, 0, str(espeakng_loader.get_data_path()).encode(), 0)
        if self.rate <= 0:
            raise RuntimeError("espeak-ng did not start")
        self._sound = bytearray()
        self._callback = _Callback(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            self._sound += ctypes.string_at(samples, count * 2)
        return 0

    def speak(self, text: str, voice: Voice) -> bytes:
        self._sound.clear()
        self._library.espeak_SetVoiceByName(voice.name.encode())
        self._library.espeak_SetParameter(_RATE, voice.words_per_minute, 0)
        data = text.encode()
        self._library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return bytes(self._sound)


_engine: _Engine | None = None


@lru_cache(maxsize=256)
def speak(text: str, voice: Voice, sample_rate: int) -> bytes:
    """16-bit mono sound of the text."""
    global _engine  # noqa: PLW0603 - the library is global itself
    with _lock:
        _engine = _engine or _Engine()
        sound, rate = _engine.speak(text, voice), _engine.rate
    samples = np.frombuffer(sound, np.int16)
    return bytes(soxr.resample(samples, rate, sample_rate).astype(np.int16).tobytes())
