"""The phrase book holds what its measuring tool promises: every line is spoken, and heard."""

import asyncio
from functools import cache

import numpy as np
import pytest
import soxr

from pipecat_local.speech.measure import COMPLETE, completeness
from pipecat_local.speech.phrases import BOOK, UNLISTED
from pipecat_local.speech.recogniser import RATE, Recogniser
from pipecat_local.speech.voice import BOT, CALLER, speak

TTS_RATE = 24_000


@cache
def ears_of_bot() -> Recogniser:
    return Recogniser(BOOK.heard_by_bot())


@cache
def ears_of_caller() -> Recogniser:
    return Recogniser(BOOK.heard_by_caller())


def quiet(seconds: float, rate: int = RATE) -> bytes:
    return bytes(int(seconds * rate) * 2)


def relayed(sound: bytes, rate: int) -> bytes:
    """As a listener gets it: resampled to 16 kHz piece by piece, 20 ms each."""
    stream = soxr.ResampleStream(rate, RATE, 1, dtype="int16", quality="QQ")
    size = rate // 50 * 2
    cut = [np.frombuffer(sound[start : start + size], np.int16) for start in range(0, len(sound), size)]
    return b"".join(stream.resample_chunk(piece, last=piece is cut[-1]).tobytes() for piece in cut)


def test_book_is_large_enough_and_unambiguous() -> None:
    assert len(BOOK.entries) >= 10
    phrases = BOOK.heard_by_caller()
    assert len(set(phrases)) == len(phrases)
    for entry in BOOK.entries:
        for near_miss in entry.near_misses:
            differing = [
                (a, b) for a, b in zip(entry.answer.split(), near_miss.split(), strict=True) if a.lower() != b.lower()
            ]
            assert len(differing) == 1


@pytest.mark.parametrize("question", BOOK.heard_by_bot())
def test_question_is_recognised(question: str) -> None:
    """With what silence VAD leaves around it."""
    sound = speak(question, CALLER, RATE)
    for before, after in ((0.0, 0.0), (1.0, 0.2), (0.3, 0.9)):
        assert ears_of_bot().recognise(quiet(before) + sound + quiet(after), RATE) == question


@pytest.mark.parametrize("question", BOOK.heard_by_bot())
def test_question_is_judged_complete_by_smart_turn(question: str) -> None:
    """One pause, at its end, and complete there: no 3 s fallback."""
    pauses = asyncio.run(completeness(speak(question, CALLER, RATE)))
    assert len(pauses) == 1
    assert pauses[0] > COMPLETE


def test_half_a_sentence_is_judged_incomplete_by_smart_turn() -> None:
    """So that being complete says something."""
    pauses = asyncio.run(completeness(speak("I would like to", CALLER, RATE)))
    assert pauses[0] < COMPLETE


@pytest.mark.parametrize("phrase", BOOK.heard_by_caller())
@pytest.mark.parametrize("rate", [RATE, TTS_RATE])
def test_phrase_of_the_bot_is_heard_as_itself(phrase: str, rate: int) -> None:
    """Answers as answers, near misses as near misses, after a relay."""
    sound = quiet(0.35, rate) + speak(phrase, BOT, rate) + quiet(0.9, rate)
    assert ears_of_caller().recognise(relayed(sound, rate), RATE) == phrase


@pytest.mark.parametrize("said", UNLISTED)
def test_unlisted_question_is_not_taken_for_another(said: str) -> None:
    assert ears_of_bot().recognise(speak(said, CALLER, RATE), RATE) is None


@pytest.mark.parametrize(
    "said", ["The owner is my uncle.", "The blue bus stops right here.", "The map is on the chair."]
)
def test_answer_with_an_unlisted_word_is_nothing(said: str) -> None:
    """Not a near miss of the grammar: the likelihood ratio alone refuses it."""
    assert ears_of_caller().recognise(speak(said, BOT, RATE), RATE) is None


@pytest.mark.parametrize("question", ["Where is your shop", "WHO IS THE OWNER", "who is the owner?"])
def test_answers_go_by_words(question: str) -> None:
    expected = BOOK.sorry if "shop" in question else "The owner is my grandmother."
    assert BOOK.answer_to(question) == expected
