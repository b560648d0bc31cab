"""Daily's transcription: words from each participant's sound, utterance by utterance."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipecat_local.speech.recogniser import Recogniser

LOUD: Final = 300.0
"""Root mean square of 16-bit samples; a quiet room is far below, a voice far above."""
SILENCE_S: Final = 0.5
"""Of silence, and an utterance is over."""
LONGEST_S: Final = 20.0


@dataclass(slots=True)
class _Utterance:
    sound: bytearray = field(default_factory=bytearray)
    silent_s: float = 0.0


class Transcriber:
    """One room's transcription."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._utterances: defaultdict[str, _Utterance] = defaultdict(_Utterance)

    async def hear(self, who: str, sound: bytes, sample_rate: int) -> list[str]:
        """More of somebody's 16-bit mono sound; answers what was said, once an utterance is over."""
        utterance = self._utterances[who]
        samples = np.frombuffer(sound, np.int16).astype(np.float32)
        loud = samples.size and float(np.sqrt(np.mean(samples**2))) >= LOUD
        duration = samples.size / sample_rate
        if loud:
            utterance.silent_s = 0.0
        else:
            utterance.silent_s += duration
        if not loud and not utterance.sound:
            return []
        utterance.sound += sound
        length = len(utterance.sound) / 2 / sample_rate
        if utterance.silent_s < SILENCE_S and length < LONGEST_S:
            return []
        del self._utterances[who]
        text = await asyncio.to_thread(self._recogniser.recognise, bytes(utterance.sound), sample_rate)
        return [text] if text else []
