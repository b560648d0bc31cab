"""What a pod is told about its session, as the bot gets it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipecat_bot.environment import read
from pipecat_bot.host import runner_arguments

URL, TOKEN = "https://mine.daily.co/room", "the.bots.token"


def body_of(folder: Path, body: Any) -> Any:
    """runner_args.body of a session with that body, in that room."""
    file = folder / "body"
    file.write_text(json.dumps(body))
    environment = {"DAILY_ROOM_URL": URL, "DAILY_ROOM_TOKEN": TOKEN, "PIPECAT_SESSION_BODY_FILE": str(file)}
    arguments = runner_arguments(read(environment))
    assert (arguments.room_url, arguments.token) == (URL, TOKEN)
    return arguments.body


def test_a_body_that_names_the_room_gets_its_token(tmp_path: Path):
    assert body_of(tmp_path, {"room_url": URL, "lang": "en"}) == {"room_url": URL, "token": TOKEN, "lang": "en"}


@pytest.mark.parametrize("body", [{}, {"room_url": "https://elsewhere"}, {"room_url": URL, "token": "other"}, [URL]])
def test_any_other_body_is_left_alone(tmp_path: Path, body: Any):
    assert body_of(tmp_path, body) == body
