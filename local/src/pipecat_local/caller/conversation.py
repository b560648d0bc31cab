"""What the caller does in a call: the handshake, the greeting, the questions."""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipecat_local.caller.call import RATE, Call
from pipecat_local.caller.judge import Heard, TurnEnd, Verdict, hear, utterance, verdict
from pipecat_local.speech.phrases import BOOK, Entry
from pipecat_local.speech.recogniser import Recogniser
from pipecat_local.speech.voice import CALLER, speak

ANSWER_S: Final = 20.0
BOT_S: Final = 60.0
LOOK_S: Final = 0.05
RTVI_VERSION: Final = "1.0.0"


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and what came back. ``latency_s``: end of speech to first answer sound, in the recording."""

    question: str
    expected: str
    heard: str | None
    verdict: Verdict
    latency_s: float | None
    turn_s: float | None


class Caller:
    """Holds one conversation."""

    def __init__(self, call: Call, seed: int) -> None:
        self._call = call
        self._random = random.Random(seed)
        self._recogniser = Recogniser(BOOK.heard_by_caller())

    def questions(self, count: int) -> list[Entry]:
        """Drawn by the seed, none twice while there are others."""
        return self._random.sample(BOOK.entries, k=min(count, len(BOOK.entries)))

    async def shake_hands(self) -> float:
        """RTVI: client-ready, bot-ready; answers when the bot was ready."""
        await self._until(lambda: self._call.bot is not None, BOT_S)
        about = {"library": "pipecat-local-caller", "library_version": "0.1.0"}
        ready = {"type": "client-ready", "id": str(uuid.uuid4()), "data": {"version": RTVI_VERSION, "about": about}}
        self._call.send(ready)
        await self._until(lambda: self._call.message("bot-ready", 0.0) is not None, BOT_S)
        return self._call.now()

    async def listen(self, since: float) -> Heard:
        """The bot's next utterance, whole."""
        with contextlib.suppress(TimeoutError):
            await self._until(lambda: self._whole_utterance(since), ANSWER_S)
        return await asyncio.to_thread(hear, self._call.heard_since(since), RATE, self._recogniser)

    async def ask(self, entry: Entry) -> Turn:
        """One question."""
        sound = await asyncio.to_thread(speak, entry.question, CALLER, RATE)
        spoken = utterance(sound, RATE)
        assert spoken is not None  # noqa: S101 - a voice is loud
        began = self._call.now()
        # espeak-ng ends with a silence of its own: that is not speech any more.
        ended = await self._call.say(sound) - (len(sound) / 2 / RATE - spoken[1])
        heard = await self.listen(ended)
        stopped = self._call.message("user-stopped-speaking", began)
        transcribed = self._call.message("user-transcription", began)
        turn_end = TurnEnd(
            after_speech_s=_between(ended, stopped),
            after_transcript_s=_between(transcribed, stopped),
        )
        return Turn(
            question=entry.question,
            expected=entry.answer,
            heard=heard.text,
            verdict=verdict(entry.answer, heard, turn_end),
            latency_s=_between(0.0, heard.begins_s),
            turn_s=turn_end.after_speech_s,
        )

    async def converse(self, count: int) -> AsyncIterator[dict[str, Any]]:
        """The greeting, then ``count`` questions; what happens, as events."""
        joined = self._call.now()
        yield {"event": "bot-ready", "at_s": round(await self.shake_hands(), 3)}
        greeting = await self.listen(joined)
        yield {"event": "greeting", "heard": greeting.text, "right": greeting.text == BOOK.greeting}
        for entry in self.questions(count):
            yield {"event": "turn", **asdict(await self.ask(entry))}

    def _whole_utterance(self, since: float) -> bool:
        found = utterance(self._call.heard_since(since), RATE)
        return bool(found and found[2]) or self._call.ended.is_set()

    async def _until(self, condition: Any, timeout_s: float) -> None:
        """Events wake it; sound is looked at now and then."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._call.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._call.changed.wait()


def _between(earlier: float | None, later: float | None) -> float | None:
    """Seconds; None when either did not happen."""
    return None if earlier is None or later is None else round(later - earlier, 3)
