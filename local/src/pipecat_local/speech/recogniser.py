"""Real ears without the internet: sound to one phrase of a short list, by pocketsphinx.

Open dictation of a synthetic voice is useless, and a grammar alone hears one of its phrases in almost anything. So a
phrase counts as heard only when the decoder walked it from the first word to the last, and when each of its words
explains its sound nearly as well as a free sequence of phones does (the likelihood-ratio test of keyword spotting).
Anything else, be it noise, silence, half a phrase or other words, is None.
"""

import math
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pocketsphinx
import soxr

RATE: Final = 16_000
"""The model's, in Hz."""
LOUD: Final = 300.0
"""Root mean square of 16-bit samples; a quiet line is far below, a voice far above."""
PIECE_S: Final = 0.02
MARGIN_S: Final = 0.25
"""Silence kept around the sound: the decoder wants to hear the phrase begin and end."""
LEFT_OVER_S: Final = 0.2
"""Sound before or after the words that may be theirs still; with more, something else was said too."""
MAX_DOUBT: Final = 290.0
"""Of the worst word. Measured (``python -m pipecat_local.speech.measure``): the book's phrases as spoken stay below
240, most sentences that differ from one in a single unlisted word are above 290."""

_PHONES: Final = "en-us/en-us-phone.lm.bin"
_FRAMES_PER_S: Final = 100
_LOG_BASE: Final = math.log(1.0001)
# A grammar's search gives scores 2^10 times as fine as a phone loop's.
_SCORE_SCALE: Final = 1024.0

Samples = np.ndarray[Any, np.dtype[np.int16]]


def words_of(text: str) -> str:
    """The words of `text` as the grammar and the dictionary spell them: lower case, no punctuation."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


class Recogniser:
    """Listens for any of `phrases`. Safe to call from several threads; one utterance is decoded at a time."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases = {words_of(phrase): phrase for phrase in phrases}
        # compallsen: all senones are scored in each frame, so that scores of two searches compare.
        self._decoder = pocketsphinx.Decoder(lm=None, compallsen=True, loglevel="FATAL")
        self._check_words()
        alternatives = " | ".join(self._phrases)
        self._decoder.add_jsgf_string("phrases", f"#JSGF V1.0; grammar book; public <phrase> = {alternatives};")
        self._decoder.activate_search("phrases")
        self._phones = pocketsphinx.Decoder(
            lm=None,
            allphone=pocketsphinx.get_model_path(_PHONES),
            lw=1.0,
            beam=1e-10,
            pbeam=1e-10,
            compallsen=True,
            loglevel="FATAL",
        )
        self._lock = threading.Lock()

    def _check_words(self) -> None:
        words = {word for phrase in self._phrases for word in phrase.split()}
        unknown = sorted(word for word in words if self._decoder.lookup_word(word) is None)
        if not words or unknown:
            raise ValueError(f"no phrases, or words that the pronunciation dictionary lacks: {unknown}")

    def recognise(self, pcm: bytes, sample_rate: int) -> str | None:
        """The phrase spoken in ``pcm`` (signed 16-bit mono), spelled as given, or None for anything else."""
        heard = self.measure(pcm, sample_rate)
        return heard.phrase if heard and heard.doubt <= MAX_DOUBT else None

    def measure(self, pcm: bytes, sample_rate: int) -> "Heard | None":
        """The likeliest whole phrase, however doubtful; None when there is none."""
        samples = trimmed(_resampled(np.frombuffer(pcm, np.int16), sample_rate))
        if not samples.size:
            return None
        sound = samples.tobytes()
        with self._lock:
            words = _decode(self._decoder, sound)
            phrase = self._phrases.get(words.text)
            if phrase is None or words.left_over_s(samples.size / RATE) > LEFT_OVER_S:
                return None
            phones = _decode(self._phones, sound)
        free = np.zeros(1 + max(words.pieces[-1].last, phones.pieces[-1].last))
        for phone in phones.pieces:
            free[phone.first : phone.last + 1] = phone.score * _SCORE_SCALE / phone.frames
        doubts = {
            # A word's loss is a sum over its frames, and its scatter grows as the square root of their number.
            word.text: float(free[word.first : word.last + 1].sum() - word.score)
            / _SCORE_SCALE
            / math.sqrt(word.frames)
            for word in words.words
        }
        worst = max(doubts, key=doubts.__getitem__)
        return Heard(phrase, doubts[worst], worst)


@dataclass(frozen=True, slots=True)
class Heard:
    """A phrase, and how much worse its worst word explains the sound than free phones do."""

    phrase: str
    doubt: float
    worst_word: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word or phone on the best path, with its log-likelihood in the decoder's unit."""

    text: str
    first: int
    last: int
    score: float

    @property
    def frames(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class _Path:
    text: str
    pieces: tuple[_Piece, ...]

    @property
    def words(self) -> list[_Piece]:
        """All but silence."""
        return [piece for piece in self.pieces if not piece.text.startswith("<")]

    def left_over_s(self, duration_s: float) -> float:
        """Seconds of sound outside of the words, on the side where there is more; the margins are none."""
        before = self.words[0].first / _FRAMES_PER_S
        after = duration_s - (self.words[-1].last + 1) / _FRAMES_PER_S
        return max(before, after) - MARGIN_S


def _decode(decoder: pocketsphinx.Decoder, sound: bytes) -> _Path:
    """The best path through the sound."""
    decoder.start_utt()
    decoder.process_raw(sound, no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    if hypothesis is None:
        return _Path("", ())
    pieces = (
        # pocketsphinx gives likelihoods, its own unit is the logarithm to this base.
        _Piece(found.word, found.start_frame, found.end_frame, math.log(max(found.ascore, 1e-307)) / _LOG_BASE)
        for found in decoder.seg()
    )
    return _Path(hypothesis.hypstr, tuple(pieces))


def _resampled(samples: Samples, sample_rate: int) -> Samples:
    if sample_rate == RATE:
        return samples
    resampled: Samples = soxr.resample(samples, sample_rate, RATE)
    return resampled


def trimmed(samples: Samples) -> Samples:
    """The sound from its first to its last loud piece, with a margin of silence; empty when all is quiet."""
    size = int(PIECE_S * RATE)
    count = samples.size // size
    if count == 0:
        return samples[:0]
    pieces = samples[: count * size].reshape(count, size).astype(np.float32)
    loud = np.flatnonzero(np.sqrt(np.mean(pieces**2, axis=1)) >= LOUD)
    if loud.size == 0:
        return samples[:0]
    quiet = np.zeros(int(MARGIN_S * RATE), np.int16)
    return np.concatenate([quiet, samples[loud[0] * size : (loud[-1] + 1) * size], quiet])
