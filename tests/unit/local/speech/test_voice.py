"""espeak-ng speaks."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipecat_local.speech.recogniser import Recogniser
from pipecat_local.speech.voice import BOT, CALLER, Voice, VoiceError, speak, utter


def test_length_follows_the_sample_rate() -> None:
    seconds = [len(speak("Who is the owner?", CALLER, rate)) / 2 / rate for rate in (16_000, 24_000)]
    assert seconds[0] == pytest.approx(seconds[1], abs=0.001)
    assert 0.5 < seconds[0] < 3


def test_it_is_loud() -> None:
    samples = np.frombuffer(speak("Who is the owner?", CALLER, 16_000), np.int16)
    assert np.abs(samples).max() > 8000


def test_words_begin_where_the_sound_says() -> None:
    text = "Our time is up. Have a nice day."
    spoken = utter(text, BOT, 24_000)
    words = [text[word.position : word.position + word.length] for word in spoken.words]
    assert words == ["Our", "time", "is", "up", "Have", "a", "nice", "day"]
    starts = [word.start for word in spoken.words]
    assert starts == sorted(starts)
    assert starts[0] == 0.0
    assert starts[-1] < spoken.duration


def test_speed() -> None:
    slow = utter("The beach is two miles away.", BOT.at_speed(0.5), 16_000)
    assert slow.duration > 1.5 * utter("The beach is two miles away.", BOT, 16_000).duration


def test_nothing_said_is_no_words() -> None:
    assert utter("", BOT, 16_000).words == ()


def test_unknown_voice_is_named() -> None:
    with pytest.raises(VoiceError, match="'nobody'"):
        speak("Hello.", Voice("nobody", 150), 16_000)


def test_several_threads_speak_each_their_own() -> None:
    phrases = [f"The beach is {word} miles away." for word in ("two", "ten", "five")] * 4
    voices = [Voice(BOT.name, BOT.words_per_minute + number) for number in range(len(phrases))]
    with ThreadPoolExecutor(4) as pool:
        sounds = pool.map(lambda phrase, voice: speak(phrase, voice, 16_000), phrases, voices)
        ears = Recogniser(set(phrases))
        assert [ears.recognise(sound, 16_000) for sound in sounds] == phrases
