"""The example that docs/bots.md has bot authors begin with is a bot: it greets, hears, and answers."""

from pathlib import Path

from .conftest import Join, Start

BOT = Path(__file__).parents[3] / "examples" / "bot" / "bot.py"


def test_a_question_is_answered(host: Start, caller: Join, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text('{"shop": "a shop of gnomes"}')
    hosted = host(BOT, PIPECAT_SESSION_BODY_FILE=str(tmp_path / "body.json"))
    hosted.wait_for_ready()
    call = caller("--questions", "1", "--seed", "3")
    events, _ = call.communicate(timeout=60)
    outcome = hosted.outcome()
    assert call.returncode == 0, events + outcome.log
    assert (outcome.code, outcome.reason) == (0, "UserLeft"), outcome.log
    assert "Session 7d0c is about a shop of gnomes" in outcome.log
