"""Daily's transcription: words from each participant's sound, utterance by utterance."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from pipecat_local.speech.recogniser import Recogniser

LOUD: Final = 300.0
"""Root mean square of 16-bit samples; a quiet room is far below, a voice far above."""
SILENCE_S: Final = 0.5
"""Of silence, and an utterance is over."""
LONGEST_S: Final = 20.0


Told = Callable[[str, str], Awaitable[None]]
"""Called with who spoke, and what was said."""


@dataclass(slots=True)
class _Utterance:
    sample_rate: int
    sound: bytearray = field(default_factory=bytearray)
    silent_s: float = 0.0
    timer: asyncio.TimerHandle | None = None


class Transcriber:
    """One room's transcription, of those who were asked for (None: of everybody)."""

    def __init__(self, recogniser: Recogniser, told: Told) -> None:
        self._recogniser = recogniser
        self._told = told
        self._utterances: dict[str, _Utterance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.participants: set[str] | None = None

    def hear(self, who: str, sound: bytes, sample_rate: int) -> None:
        """More of somebody's 16-bit mono sound. Nothing for a while is silence too."""
        if self.participants is not None and who not in self.participants:
            return
        samples = np.frombuffer(sound, np.int16).astype(np.float32)
        loud = samples.size > 0 and float(np.sqrt(np.mean(samples**2))) >= LOUD
        utterance = self._utterances.get(who)
        if utterance is None:
            if not loud:
                return
            utterance = self._utterances[who] = _Utterance(sample_rate)
        utterance.silent_s = 0.0 if loud else utterance.silent_s + samples.size / sample_rate
        utterance.sound += sound
        if utterance.timer:
            utterance.timer.cancel()
        if utterance.silent_s >= SILENCE_S or len(utterance.sound) / 2 / sample_rate >= LONGEST_S:
            self._over(who)
        else:
            utterance.timer = asyncio.get_running_loop().call_later(SILENCE_S, self._over, who)

    def _over(self, who: str) -> None:
        task = asyncio.ensure_future(self._recognise(who, self._utterances.pop(who)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recognise(self, who: str, utterance: _Utterance) -> None:
        sound, rate = bytes(utterance.sound), utterance.sample_rate
        text = await asyncio.to_thread(self._recogniser.recognise, sound, rate)
        if text:
            await self._told(who, text)
