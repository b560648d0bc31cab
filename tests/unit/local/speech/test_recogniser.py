"""What is no phrase is nothing."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipecat_local.speech.recogniser import RATE, Recogniser
from pipecat_local.speech.voice import CALLER, speak

PHRASES = ("Which bus should I take?", "How far is the beach?", "Who is the owner?")


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser(PHRASES)


def test_a_phrase_is_given_back_as_it_was_written(recogniser: Recogniser) -> None:
    assert recogniser.recognise(speak("how far is the beach", CALLER, 48_000), 48_000) == "How far is the beach?"


@pytest.mark.parametrize("sound", [b"", bytes(2), bytes(64_000)], ids=["nothing", "one sample", "silence"])
def test_silence(recogniser: Recogniser, sound: bytes) -> None:
    assert recogniser.recognise(sound, RATE) is None


@pytest.mark.parametrize("level", [400, 3000, 12_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise(recogniser: Recogniser, level: int, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, level, 2 * RATE).clip(-32_768, 32_767).astype(np.int16)
    assert recogniser.recognise(noise.tobytes(), RATE) is None


def test_tone(recogniser: Recogniser) -> None:
    tone = (9000 * np.sin(np.arange(2 * RATE) * 2 * np.pi * 300 / RATE)).astype(np.int16)
    assert recogniser.recognise(tone.tobytes(), RATE) is None


@pytest.mark.parametrize("said", ["Which bus should", "How far", "is the owner?", "Who is", "the beach"])
def test_part_of_a_phrase(recogniser: Recogniser, said: str) -> None:
    """The decoder's partial hypothesis is no match."""
    assert recogniser.recognise(speak(said, CALLER, RATE), RATE) is None


@pytest.mark.parametrize("said", ["The quick brown fox jumps over the lazy dog.", "Hello?", "Yes, thank you."])
def test_other_words(recogniser: Recogniser, said: str) -> None:
    assert recogniser.recognise(speak(said, CALLER, RATE), RATE) is None


def test_two_phrases_at_once_are_neither(recogniser: Recogniser) -> None:
    both = speak(PHRASES[0], CALLER, RATE) + speak(PHRASES[1], CALLER, RATE)
    assert recogniser.recognise(both, RATE) is None


def test_several_threads_hear_each_their_own(recogniser: Recogniser) -> None:
    said = PHRASES * 4
    sounds = [speak(phrase, CALLER, RATE) for phrase in said]
    with ThreadPoolExecutor(4) as pool:
        assert tuple(pool.map(lambda sound: recogniser.recognise(sound, RATE), sounds)) == said


@pytest.mark.parametrize("phrases", [["Who is the zxqy?"], []])
def test_words_that_it_cannot_hear_are_named(phrases: list[str]) -> None:
    with pytest.raises(ValueError, match=r"zxqy|no phrases"):
        Recogniser(phrases)
