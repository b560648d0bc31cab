"""The default bot in conversation: what it says is recognised from sound, in each of its settings."""

from pathlib import Path

import pytest

from .conftest import Join, Start

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
