"""What the host reads and writes: the environment, the termination message, the log."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_bot.ending import MESSAGE_LIMIT, Ending, EndReason
from pipecat_bot.environment import BadEnvironment, read
from pipecat_bot.last_words import LastWords
from pipecat_bot.redaction import redact_output, redactor, secrets_of

NEEDED = {"DAILY_ROOM_URL": "https://a.daily.co/r", "DAILY_ROOM_TOKEN": "a.b.c"}


@given(st.text(max_size=9000))
def test_a_termination_message_fits(message: str) -> None:
    """Valid JSON within Kubernetes' limit, cut only when it must be."""
    text = Ending(EndReason.IDLE, message).termination_message()
    assert len(text.encode()) <= MESSAGE_LIMIT
    said = json.loads(text)
    assert said["reason"] == "Idle"
    assert message.startswith(said["message"])
    if len(json.dumps(message)) < MESSAGE_LIMIT - 100:
        assert said["message"] == message


@pytest.mark.parametrize("reason", EndReason)
def test_exit_codes(reason: EndReason) -> None:
    """As the operator mirrors them: a conversation that ended is no failure."""
    failures = {"BadConfig": 64, "BotFailed": 70, "JoinFailed": 75}
    assert Ending(reason, "").exit_code == failures.get(reason.value, 0)


def test_the_first_last_words_count(tmp_path: Path) -> None:
    path = tmp_path / "message"
    words = LastWords(path, redactor({"secret-token"}))
    first = words.say(Ending(EndReason.USER_LEFT, "by secret-token"))
    assert words.say(Ending(EndReason.STOPPED, "later")) == first
    assert json.loads(path.read_text()) == {"reason": "UserLeft", "message": "by ***"}


def test_last_words_nowhere_to_write(tmp_path: Path) -> None:
    """The exit code still tells."""
    words = LastWords(tmp_path / "missing" / "message", redactor(set()))
    assert words.say(Ending(EndReason.JOIN_FAILED, "")).exit_code == 75


def test_defaults_for_trying_a_bot() -> None:
    session = read({**NEEDED, "UNRELATED": "x"})
    assert (session.body, session.session_id, session.bot_file) == ({}, None, Path("bot.py"))
    assert (session.max_duration, session.join_timeout, session.idle_timeout, session.grace) == (3600, 60, 120, 30)
    assert "a.b.c" not in repr(session)


@pytest.mark.parametrize(("text", "body"), [("null", {}), ('{"a": 1}', {"a": 1}), ("[1]", [1]), ('"é"', "é"), ("0", 0)])
def test_bodies(text: str, body: object, tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text(text, encoding="utf-8")
    assert read({**NEEDED, "PIPECAT_SESSION_BODY_FILE": str(file)}).body == body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DAILY_ROOM_URL", "a.daily.co/r"),
        ("DAILY_ROOM_TOKEN", ""),
        ("PIPECAT_IDLE_TIMEOUT_SECONDS", "0"),
        ("PIPECAT_JOIN_TIMEOUT_SECONDS", "-1"),
        ("PIPECAT_TERMINATION_GRACE_SECONDS", "soon"),
        ("PIPECAT_SESSION_BODY_FILE", "/nowhere/body.json"),
        ("PIPECAT_SESSION_BODY_FILE", "/dev/null"),
    ],
)
def test_what_is_wrong_is_named(name: str, value: str) -> None:
    with pytest.raises(BadEnvironment, match=name) as caught:
        read({**NEEDED, name: value})
    assert "a.b.c" not in str(caught.value)


def test_all_that_is_missing_is_named() -> None:
    with pytest.raises(BadEnvironment, match=r"DAILY_ROOM_URL is not set.*DAILY_ROOM_TOKEN is not set"):
        read({})


def test_secrets_by_name() -> None:
    env = {
        "DAILY_ROOM_TOKEN": "long-token",
        "OPENAI_API_KEY": "long-api-key",
        "A_KEY": "short",
        "PATH": "/usr/bin:/bin",
    }
    assert secrets_of(env) == {"long-token", "long-api-key"}


def test_a_secret_within_a_secret() -> None:
    """The longer one goes first, or its rest would be seen."""
    assert redactor({"abcdefgh", "abcdefghijkl"})("x abcdefghijkl abcdefgh") == "x *** ***"


def test_output_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    redact_output(redactor({"secret-token"}))
    print("a secret-token")
    print("b secret-token", file=sys.stderr, flush=True)
    assert (stdout.getvalue(), stderr.getvalue()) == ("a ***\n", "b ***\n")
