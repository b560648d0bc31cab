"""Measures the phrase book: ``python -m pipecat_local.speech.measure`` prints a table, exit code 1 if a line is bad.

Each question must be recognised and judged complete by the unmodified Silero VAD and Smart Turn at the first pause;
each answer and near miss must be heard as itself. Measure again whenever a phrase, a voice or a speed changes.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from loguru import logger
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADState
from pipecat.metrics.metrics import TurnMetricsData

from pipecat_local.speech.phrases import BOOK, UNLISTED
from pipecat_local.speech.recogniser import MAX_DOUBT, PIECE_S, RATE, Recogniser
from pipecat_local.speech.voice import BOT, CALLER, Voice, speak

COMPLETE = 0.5
"""Smart Turn's own threshold."""
OFFSETS = (0, 60, 171, 300)
"""In samples: where a question begins between two frames of the analyzers changes their figures."""
RATES = (16_000, 24_000)
"""In Hz: what Daily and OpenAI carry."""
QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """One phrase: how it was heard, and for questions how complete Smart Turn thought it (the worst of several)."""

    said: str
    heard: str | None
    doubt: float
    complete: float | None
    right: bool


async def completeness(sound: bytes) -> list[float]:
    """Smart Turn's probability that the turn is complete, at each pause that Silero VAD sees in ``sound`` (16 kHz)."""
    vad = SileroVADAnalyzer(sample_rate=RATE)
    vad.set_sample_rate(RATE)
    smart_turn = LocalSmartTurnAnalyzerV3(sample_rate=RATE)
    smart_turn.set_sample_rate(RATE)
    quiet = bytes(int(QUIET_S * RATE) * 2)
    found: list[float] = []
    speaking = False
    for piece in pieces(quiet + sound + quiet):
        state = await vad.analyze_audio(piece)
        paused = speaking and state == VADState.QUIET
        speaking = state == VADState.SPEAKING or (speaking and state == VADState.STOPPING)
        smart_turn.append_audio(piece, speaking)
        if paused:
            _, metrics = await smart_turn.analyze_end_of_turn()
            if isinstance(metrics, TurnMetricsData):
                found.append(metrics.probability)
    await vad.cleanup()
    await smart_turn.cleanup()
    return found


def pieces(sound: bytes) -> Iterator[bytes]:
    """As a transport hands it on."""
    size = int(PIECE_S * RATE) * 2
    for start in range(0, len(sound) - size + 1, size):
        yield sound[start : start + size]


def question_line(question: str, voice: Voice, recogniser: Recogniser) -> Line:
    """A question, to the bot's ears."""
    sound = speak(question, voice, RATE)
    judged = [asyncio.run(completeness(bytes(offset * 2) + sound)) for offset in OFFSETS]
    one_turn = all(len(pauses) == 1 for pauses in judged)
    complete = min(min(pauses, default=0.0) for pauses in judged)
    heard = recogniser.measure(sound, RATE)
    right = heard is not None and heard.phrase == question and heard.doubt <= MAX_DOUBT
    return Line(
        said=question,
        heard=heard.phrase if heard else None,
        doubt=heard.doubt if heard else 0.0,
        complete=complete,
        right=right and one_turn and complete > COMPLETE,
    )


def answer_line(answer: str, voice: Voice, recogniser: Recogniser) -> Line:
    """A phrase of the bot, to the caller's ears, at every rate."""
    found = [recogniser.measure(speak(answer, voice, rate), rate) for rate in RATES]
    worst = max(found, key=lambda heard: heard.doubt if heard else float("inf"))
    return Line(
        said=answer,
        heard=worst.phrase if worst else None,
        doubt=worst.doubt if worst else 0.0,
        complete=None,
        right=all(heard and heard.phrase == answer and heard.doubt <= MAX_DOUBT for heard in found),
    )


def unlisted_line(said: str, voice: Voice, recogniser: Recogniser) -> Line:
    """Something that the bot must not take for a question of the book."""
    heard = recogniser.measure(speak(said, voice, RATE), RATE)
    return Line(
        said=said,
        heard=heard.phrase if heard else None,
        doubt=heard.doubt if heard else 0.0,
        complete=None,
        right=heard is None or heard.doubt > MAX_DOUBT,
    )


def table(caller: Voice, bot: Voice) -> Iterator[Line]:
    """Every line of the book."""
    ears_of_bot, ears_of_caller = Recogniser(BOOK.heard_by_bot()), Recogniser(BOOK.heard_by_caller())
    for question in BOOK.heard_by_bot():
        yield question_line(question, caller, ears_of_bot)
    for answer in BOOK.heard_by_caller():
        yield answer_line(answer, bot, ears_of_caller)
    for said in UNLISTED:
        yield unlisted_line(said, caller, ears_of_bot)


def voice(text: str) -> Voice:
    """``name:words a minute``."""
    name, _, words_per_minute = text.partition(":")
    return Voice(name, int(words_per_minute))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.speech.measure")
    parser.add_argument("--caller", type=voice, default=CALLER, help="a voice to try, as en-us+f2:205")
    parser.add_argument("--bot", type=voice, default=BOT)
    arguments = parser.parse_args()
    logger.remove()
    sys.stdout.write(f"{'said':40}{'heard':40}{'doubt':>6} {'complete':>8}\n")
    bad = 0
    for line in table(arguments.caller, arguments.bot):
        complete = "" if line.complete is None else f"{line.complete:.2f}"
        mark = "" if line.right else "  BAD"
        sys.stdout.write(f"{line.said:40}{line.heard or '-':40}{line.doubt:6.0f} {complete:>8}{mark}\n")
        bad += not line.right
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
