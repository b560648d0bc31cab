"""The default bot in conversation: what it says is recognised from sound, in each of its settings."""

import wave
from pathlib import Path

import numpy as np
import pytest

from pipecat_local.speech.phrases import BOOK
from pipecat_local.speech.recogniser import Recogniser

from .conftest import Join, Room, Start

BOT = Path(__file__).parents[3] / "bot_image" / "bot.py"


@pytest.mark.parametrize(
    ("transcription", "voice"), [("openai", "openai"), ("daily", "openai"), ("openai", "elevenlabs")]
)
def test_a_question_is_answered(transcription: str, voice: str, host: Start, caller: Join) -> None:
    """The greeting comes first; then the right answer; then the caller hangs up."""
    hosted = host(BOT, BOT_TRANSCRIPTION=transcription, BOT_VOICE=voice)
    hosted.wait_for_ready()
    call = caller("--questions", "1", "--seed", "3")
    events, _ = call.communicate(timeout=60)
    outcome = hosted.outcome()
    assert call.returncode == 0, events + outcome.log
    assert '"event": "greeting"' in events
    assert (outcome.code, outcome.reason) == (0, "UserLeft"), outcome.log


def test_the_body_shapes_the_bot(host: Start, tmp_path: Path) -> None:
    """Its ``system_prompt`` comes before the environment's."""
    (tmp_path / "body.json").write_text('{"system_prompt": "You sell garden gnomes."}')
    hosted = host(
        BOT,
        BOT_SYSTEM_PROMPT="You sell umbrellas.",
        PIPECAT_SESSION_BODY_FILE=str(tmp_path / "body.json"),
        PIPECAT_JOIN_TIMEOUT_SECONDS="1",
    )
    outcome = hosted.outcome()
    assert outcome.reason == "NoShow", outcome.log
    assert "You sell garden gnomes." in outcome.log
    assert "You sell umbrellas." not in outcome.log


def test_daily_transcription_needs_an_owner(host: Start, room: Room) -> None:
    """A bot that was to hear and can't is of no use: it ends, and says what Daily said."""
    outcome = host(BOT, BOT_TRANSCRIPTION="daily", DAILY_ROOM_TOKEN=room.user_token).outcome()
    assert (outcome.code, outcome.reason) == (75, "JoinFailed"), outcome.log
    assert "Unable to start transcription" in outcome.message


def test_the_goodbye_is_heard(host: Start, caller: Join, tmp_path: Path) -> None:
    """At the maximum duration; the last that the caller hears."""
    hosted = host(BOT, PIPECAT_MAX_DURATION_SECONDS="8")
    hosted.wait_for_ready()
    call = caller("--questions", "0", "--stay", "30", "--record", str(tmp_path / "call.wav"))
    call.communicate(timeout=60)
    assert hosted.outcome().reason == "MaxDuration"
    with wave.open(str(tmp_path / "call.wav")) as recording:
        rate = recording.getframerate()
        heard = np.frombuffer(recording.readframes(recording.getnframes()), np.int16).reshape(-1, 2)[:, 1]
    last = _last_utterance(heard, rate)
    assert Recogniser(BOOK.heard_by_caller()).recognise(last.tobytes(), rate) == BOOK.goodbye


def _last_utterance(sound: np.ndarray, rate: int) -> np.ndarray:
    """From the last pause of a second to the end."""
    loud = np.flatnonzero(np.abs(sound) > 100)
    pauses = np.flatnonzero(np.diff(loud) > rate)
    start = loud[pauses[-1] + 1] if len(pauses) else loud[0]
    return sound[max(0, start - rate // 2) : loud[-1] + rate // 2]
