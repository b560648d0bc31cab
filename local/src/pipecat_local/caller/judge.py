"""Was the answer right? Pure: sound and times in, a verdict out."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from pipecat_local.speech.recogniser import LOUD, Recogniser

PIECE_S: Final = 0.02
QUIET_S: Final = 0.9
"""Silence that ends an answer; within one, a voice pauses less."""
FALLBACK_S: Final = 3.0
"""Of silence, that Smart Turn waits for when it thinks a turn incomplete. Sound flows in real time: a turn that ended
sooner after the caller's speech cannot have ended by it, however loaded the machine is."""
WAITED_S: Final = 1.0
"""A later end is the fallback's if the transcript had been there that long: the turn was waiting for nothing else."""


class Verdict(StrEnum):
    """Of one turn."""

    RIGHT = "right"
    WRONG = "wrong answer"
    UNRECOGNISED = "nothing that was said is in the phrase book"
    SILENCE = "no answer"
    FALLBACK = "answered only after Smart Turn's fallback"


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """When Pipecat saw the caller's turn end, by its own RTVI messages; None: it never said."""

    after_speech_s: float | None
    """Since the last sound of the caller's speech."""
    after_transcript_s: float | None
    """Since the transcript of that speech."""

    @property
    def by_fallback(self) -> bool:
        """Smart Turn had not found the turn complete."""
        if self.after_speech_s is None:
            return True
        waited = self.after_transcript_s is None or self.after_transcript_s >= WAITED_S
        return self.after_speech_s >= FALLBACK_S and waited


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance of the bot."""

    text: str | None
    begins_s: float | None
    """From the start of the sound given."""


def utterance(sound: bytes, sample_rate: int) -> tuple[float, float, bool] | None:
    """Begin and end, in seconds, of the first utterance, and whether it is over; None while all is quiet."""
    size = int(PIECE_S * sample_rate)
    count = len(sound) // 2 // size
    if count == 0:
        return None
    pieces = np.frombuffer(sound, np.int16)[: count * size].reshape(count, size).astype(np.float32)
    loud = np.flatnonzero(np.sqrt(np.mean(pieces**2, axis=1)) >= LOUD)
    if loud.size == 0:
        return None
    pause = int(QUIET_S / PIECE_S)
    gaps = np.flatnonzero(np.diff(loud) > pause)
    last = int(loud[gaps[0]] if gaps.size else loud[-1])
    return int(loud[0]) * PIECE_S, (last + 1) * PIECE_S, count - last > pause


def hear(sound: bytes, sample_rate: int, recogniser: Recogniser) -> Heard:
    """The first utterance in the sound."""
    found = utterance(sound, sample_rate)
    if found is None:
        return Heard(None, None)
    begin, end, _ = found
    cut = sound[int(begin * sample_rate) * 2 : int(end * sample_rate) * 2]
    return Heard(recogniser.recognise(cut, sample_rate), begin)


def verdict(expected: str, heard: Heard, turn_end: TurnEnd) -> Verdict:
    """Of one question whose answer should have been ``expected``."""
    if heard.begins_s is None:
        return Verdict.SILENCE
    if heard.text is None:
        return Verdict.UNRECOGNISED
    if heard.text != expected:
        return Verdict.WRONG
    return Verdict.FALLBACK if turn_end.by_fallback else Verdict.RIGHT
