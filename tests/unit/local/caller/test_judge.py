"""The judge, fed with real sound: right, wrong, noise, silence, and late answers are told apart."""

from functools import cache

import numpy as np
import pytest

from pipecat_local.caller.judge import Heard, TurnEnd, Verdict, hear, utterance, verdict
from pipecat_local.speech.phrases import BOOK, UNLISTED, Entry
from pipecat_local.speech.recogniser import RATE, Recogniser
from pipecat_local.speech.voice import BOT, speak

ENTRY = BOOK.entries[0]
AT_ONCE = TurnEnd(after_speech_s=0.6, after_transcript_s=0.01)


@cache
def ears() -> Recogniser:
    return Recogniser(BOOK.heard_by_caller())


def quiet(seconds: float) -> bytes:
    return bytes(int(seconds * RATE) * 2)


def noise(seconds: float) -> bytes:
    return np.random.default_rng(5).normal(0, 3000, int(seconds * RATE)).astype(np.int16).tobytes()


def judged(sound: bytes, turn_end: TurnEnd = AT_ONCE) -> tuple[Verdict, Heard]:
    heard = hear(quiet(0.8) + sound + quiet(1.2), RATE, ears())
    return verdict(ENTRY.answer, heard, turn_end), heard


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (speak(ENTRY.answer, BOT, RATE), Verdict.RIGHT),
        (speak(ENTRY.near_misses[0], BOT, RATE), Verdict.WRONG),
        (speak(ENTRY.near_misses[1], BOT, RATE), Verdict.WRONG),
        (speak(BOOK.entries[1].answer, BOT, RATE), Verdict.WRONG),
        (speak(BOOK.sorry, BOT, RATE), Verdict.WRONG),
        (speak(BOOK.goodbye, BOT, RATE), Verdict.WRONG),
        (speak(UNLISTED[0], BOT, RATE), Verdict.UNRECOGNISED),
        (speak(ENTRY.answer.rsplit(" ", 2)[0], BOT, RATE), Verdict.UNRECOGNISED),
        (noise(2.0), Verdict.UNRECOGNISED),
        (b"", Verdict.SILENCE),
    ],
    ids=[
        "the answer", "one word wrong", "another word wrong", "another answer", "sorry", "goodbye", "not in the book",
        "half the answer", "noise", "silence",
    ],
)  # fmt: skip
def test_what_is_heard(sound: bytes, expected: Verdict) -> None:
    assert judged(sound)[0] == expected


@pytest.mark.parametrize("entry", BOOK.entries, ids=lambda entry: entry.question)
def test_every_near_miss_is_a_wrong_answer(entry: Entry) -> None:
    for near_miss in entry.near_misses:
        heard = hear(quiet(0.5) + speak(near_miss, BOT, RATE) + quiet(1.2), RATE, ears())
        assert verdict(entry.answer, heard, AT_ONCE) == Verdict.WRONG
        assert heard.text == near_miss


def test_latency_is_in_the_sound() -> None:
    _, heard = judged(speak(ENTRY.answer, BOT, RATE))
    assert heard.begins_s == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("after_speech_s", "after_transcript_s", "expected"),
    [
        (0.5, 0.0, Verdict.RIGHT),
        (2.9, 2.4, Verdict.RIGHT),
        (3.2, 2.8, Verdict.FALLBACK),
        (4.0, None, Verdict.FALLBACK),
        (4.0, 0.1, Verdict.RIGHT),
        (None, None, Verdict.FALLBACK),
    ],
    ids=["at once", "before it could be the fallback", "fallback", "no transcript", "slow machine", "never told"],
)
def test_smart_turns_fallback_is_told_apart(
    after_speech_s: float | None, after_transcript_s: float | None, expected: Verdict
) -> None:
    assert judged(speak(ENTRY.answer, BOT, RATE), TurnEnd(after_speech_s, after_transcript_s))[0] == expected


def test_an_utterance_ends_with_a_second_of_quiet() -> None:
    answer = speak(ENTRY.answer, BOT, RATE)
    running = utterance(quiet(0.5) + answer, RATE)
    over = utterance(quiet(0.5) + answer + quiet(1.2), RATE)
    assert running is not None
    assert over is not None
    assert (running[2], over[2]) == (False, True)
    assert running[:2] == over[:2]
    assert utterance(quiet(3), RATE) is None


def test_the_first_of_two_utterances_is_heard() -> None:
    both = speak(ENTRY.answer, BOT, RATE) + quiet(1.5) + speak(BOOK.goodbye, BOT, RATE)
    assert judged(both)[1].text == ENTRY.answer
