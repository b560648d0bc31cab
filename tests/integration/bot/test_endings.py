"""Every way in which a session ends, for three kinds of bot: ours, a plain one, and one of the deprecated kind."""

import signal
from pathlib import Path

import pytest

from .conftest import Daily, Join, Room, Start, joined

ROOT = Path(__file__).parents[3]
BOTS = Path(__file__).with_name("bots")
KINDS = {
    "default": ROOT / "bot_image" / "bot.py",
    "plain": BOTS / "plain.py",
    "deprecated": BOTS / "deprecated.py",
}

pytestmark = pytest.mark.parametrize("bot", KINDS.values(), ids=KINDS.keys())


def test_the_last_user_leaves(bot: Path, host: Start, caller: Join, daily: Daily, room: Room) -> None:
    """One of two users leaving ends nothing; nor does it matter whether the bot cancels by itself."""
    hosted = host(bot)
    hosted.wait_for_ready()
    user = caller()
    joined(user)
    hosted.wait_for_log("Users in the room: 1")
    user.terminate()
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "UserLeft"), outcome.log
    assert daily.present(room) == 0


def test_nobody_comes(bot: Path, host: Start) -> None:
    hosted = host(bot, PIPECAT_JOIN_TIMEOUT_SECONDS="1")
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason, outcome.message) == (0, "NoShow", "Nobody came within 1 s."), outcome.log


def test_nobody_speaks(bot: Path, host: Start, caller: Join) -> None:
    hosted = host(bot, PIPECAT_IDLE_TIMEOUT_SECONDS="2")
    hosted.wait_for_ready()
    caller()
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason, outcome.message) == (0, "Idle", "Nobody spoke for 2 s."), outcome.log


def goodbye(bot: Path) -> str:
    """What is logged when that bot says it."""
    said = "Our time is up. Have a nice day."
    return f"Generating TTS [{said}]" if bot.name == "bot.py" else f"says: {said}"


def test_the_maximum_is_reached(bot: Path, host: Start, caller: Join) -> None:
    """The bot says goodbye first, and its own code runs to its end."""
    hosted = host(bot, PIPECAT_MAX_DURATION_SECONDS="15")
    hosted.wait_for_ready()
    caller()
    outcome = hosted.outcome()
    assert "Participant joined" in outcome.log, "too late to be told"
    assert (outcome.code, outcome.reason) == (0, "MaxDuration"), outcome.log
    assert goodbye(bot) in outcome.log
    assert bot.name != "plain.py" or "the bot's own last line" in outcome.log


def test_sigterm_in_the_call(bot: Path, host: Start, caller: Join, daily: Daily, room: Room) -> None:
    """Even if the bot's runner has asked for SIGTERM itself."""
    hosted = host(bot)
    hosted.wait_for_ready()
    joined(caller())
    hosted.wait_for_log("Users in the room: 1")
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log
    assert outcome.message == "The session was asked to stop."
    assert goodbye(bot) in outcome.log
    assert daily.present(room) <= 1  # the caller is on its way out


def test_the_room_is_closed(bot: Path, host: Start, caller: Join, daily: Daily, room: Room) -> None:
    hosted = host(bot)
    hosted.wait_for_ready()
    daily.call("DELETE", f"/v1/rooms/{room.name}")
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Ejected"), outcome.log


def test_joining_fails(bot: Path, host: Start) -> None:
    """Pipecat alone would stay for 300 s."""
    outcome = host(bot, DAILY_ROOM_TOKEN="not-a-token-of-this-room").outcome()
    assert (outcome.code, outcome.reason) == (75, "JoinFailed"), outcome.log
    assert "Error joining" in outcome.message
    assert "not-a-token-of-this-room" not in outcome.log + outcome.message
