"""Which phrases are heard right, and judged complete by Smart Turn: ``python -m pipecat_local.speech.measure``.

The book must be measured again whenever its phrases, voices or speeds change.
"""

import asyncio
import sys

import numpy as np
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

from pipecat_local.speech.phrases import BOOK
from pipecat_local.speech.recogniser import RATE, Recogniser
from pipecat_local.speech.voice import BOT, CALLER, Voice, speak

SILENCE = bytes(int(0.2 * RATE) * 2)
"""About what has passed when VAD asks Smart Turn."""


async def completeness(texts: tuple[str, ...], voice: Voice) -> dict[str, float]:
    """Smart Turn's probability that each text, spoken, is a whole turn."""
    analyzer = LocalSmartTurnAnalyzerV3()
    found = {}
    for text in texts:
        sound = np.frombuffer(SILENCE + speak(text, voice, RATE) + SILENCE, np.int16)
        found[text] = float(analyzer._predict_endpoint(sound.astype(np.float32) / 32768)["probability"])
    await analyzer.cleanup()
    return found


def heard(texts: tuple[str, ...], voice: Voice, recogniser: Recogniser, sample_rate: int) -> dict[str, str | None]:
    """What the recogniser makes of each text, spoken."""
    quiet = bytes(int(0.3 * sample_rate) * 2)
    return {text: recogniser.recognise(quiet + speak(text, voice, sample_rate) + quiet, sample_rate) for text in texts}


def main() -> None:
    """Print the tables."""
    questions, answers = BOOK.heard_by_bot(), BOOK.heard_by_caller()
    for voice in (CALLER, *(Voice(n, w) for n in ("en-us+f3", "en-us+f2", "en-us", "en-us+m3") for w in (160, 190))):
        right = heard(questions, voice, Recogniser(questions), RATE)
        complete = asyncio.run(completeness(questions, voice))
        sys.stdout.write(
            f"\n{voice}: heard {sum(q == a for q, a in right.items())}, "
            f"complete {sum(p > 0.5 for p in complete.values())} of {len(questions)}\n"
        )
        for question in questions:
            mark = "ok " if right[question] == question and complete[question] > 0.5 else "BAD"
            sys.stdout.write(f"  {mark} {complete[question]:.2f} {question} -> {right[question]}\n")
    for voice in (BOT, *(Voice(n, w) for n in ("en-us+f2", "en-us", "en-us+f3") for w in (130, 160))):
        got = heard(answers, voice, Recogniser(answers), 24000)
        wrong = [f"{said} -> {got[said]}" for said in answers if got[said] != said]
        sys.stdout.write(f"\n{voice}: {len(answers) - len(wrong)} of {len(answers)} answers heard right\n")
        for line in wrong:
            sys.stdout.write(f"  BAD {line}\n")


if __name__ == "__main__":
    main()
