"""The search for secrets finds them: else its silence would say nothing."""

import base64
import json
import tempfile
from pathlib import Path

import jwt
import pytest

from support.keys import DAILY_KEY, IN_A_BODY
from support.leaks import HOLDERS, leaks, note, search

TOKEN = jwt.encode({"r": "room", "o": True}, DAILY_KEY, algorithm="HS256")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (f"Authorization: Bearer {DAILY_KEY}", "a key"),
        (f"data: {base64.b64encode(DAILY_KEY.encode()).decode()}", "a key, in base64"),
        (f"wss://x/?t={TOKEN}&x", "a token"),
        (json.dumps({"botToken": base64.b64encode(TOKEN.encode()).decode()}), "a token, in base64"),
        (f"pin={IN_A_BODY}", "the body of a session"),
        (json.dumps({"requestObject": {"status": {"message": TOKEN}}}), "a token"),
    ],
)
def test_it_finds(line: str, what: str):
    assert list(leaks(f"first\n\u00e9\n{line}\nlast".encode(), [DAILY_KEY])) == [(3, what)]


@pytest.mark.parametrize(
    "line",
    ["", "eyJ", "eyJhIjoxfQ.not.one", "ZXlKaGJHY2lPaUpJVXpJMU5pSXNJblI1", "a key"],
    ids=["nothing", "begin", "no-token", "cut", "word"],
)
def test_it_does_not_cry_wolf(line: str):
    assert not list(leaks(line.encode(), [DAILY_KEY]))


@pytest.fixture
def folder():
    """Gone before the run's own search, which would find what is in it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_files_are_searched_unless_they_rightly_hold_secrets(folder: Path):
    note(folder, ["made-up-on-the-way"])
    for name in ("a/operator.log", "b", "audit.log", "x.kubeconfig", "tokens.csv", "pki/sa.key", "etcd/member/wal"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\n\0made-up-on-the-way")
    found = search([folder])
    assert [(leak.file.relative_to(folder).as_posix(), leak.line) for leak in found] == [
        ("a/operator.log", 2),
        ("audit.log", 2),
        ("b", 2),
    ]
    assert all(HOLDERS.values())
    assert "made-up-on-the-way" not in "".join(map(str, found))
