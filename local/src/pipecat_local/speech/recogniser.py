"""pocketsphinx with a grammar of whole phrases: it hears one of them, or nothing."""

import re
import threading
from collections.abc import Iterable
from typing import Final

import numpy as np
import soxr
from pocketsphinx import Decoder

RATE: Final = 16000
LOUD: Final = 300.0
PIECE_S: Final = 0.02
MARGIN_S: Final = 0.25
"""Silence kept around the sound: the decoder wants to hear the phrase begin and end."""


def normal(text: str) -> str:
    """Words as the recogniser spells them."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


class Recogniser:
    """Hears the given phrases. One at a time: a decoder has state."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = {normal(phrase): phrase for phrase in phrases}
        rules = " | ".join(f"( {phrase} )" for phrase in self._phrases)
        grammar = f"#JSGF V1.0;\ngrammar book;\npublic <phrase> = {rules} ;\n"
        self._decoder = Decoder(lm=None, loglevel="FATAL")
        self._decoder.add_jsgf_string("book", grammar)
        self._decoder.activate_search("book")
        self._lock = threading.Lock()

    def recognise(self, sound: bytes, sample_rate: int) -> str | None:
        """The phrase in this 16-bit mono sound; None when it is none of them."""
        samples = np.frombuffer(sound, np.int16)
        if sample_rate != RATE:
            samples = soxr.resample(samples, sample_rate, RATE).astype(np.int16)
        samples = trimmed(samples)
        if samples.size == 0:
            return None
        with self._lock:
            self._decoder.start_utt()
            self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
            self._decoder.end_utt()
            heard = self._decoder.hyp()
        # A part of a phrase comes back as a hypothesis too: only a whole one counts.
        return self._phrases.get(heard.hypstr) if heard else None


def trimmed(samples: np.ndarray) -> np.ndarray:
    """The sound from its first to its last loud piece, with a margin; empty when all is quiet."""
    size = int(PIECE_S * RATE)
    count = samples.size // size
    if count == 0:
        return samples[:0]
    pieces = samples[: count * size].reshape(count, size).astype(np.float32)
    loud = np.flatnonzero(np.sqrt(np.mean(pieces**2, axis=1)) >= LOUD)
    if loud.size == 0:
        return samples[:0]
    margin = int(MARGIN_S * RATE)
    quiet = np.zeros(margin, np.int16)
    kept = samples[max(0, loud[0] * size) : (loud[-1] + 1) * size]
    return np.concatenate([quiet, kept, quiet])
