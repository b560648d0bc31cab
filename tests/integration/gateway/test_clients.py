"""Pipecat Cloud's own SDK and CLI, as published, called with another host and other keys and nothing else changed."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pipecatcloud.exception import AgentStartError
from pipecatcloud.session import Session, SessionParams

from pipecat_local.processes import wait_until
from support.gateway import NOBODY, UP_S, Gateway, Keys, with_keys
from support.operated import Operated

CLI = "from pipecatcloud.cli.entry_point import entrypoint_cli_typer as cli; cli()"
STRANGER = "pk_stranger_0123456789"
"""No key, of either kind."""
ORG = {"PIPECAT_ORG": "default"}
"""Else the CLI asks whose its key is, and with one that is refused gets no further."""

SAID = [
    (("start", "nobody", "--force", "--use-daily"), "does not exist"),
    (("start", "bot", "--force"), "createDailyRoom true"),
    (("sessions", "nobody"), "There is no Bot 'nobody'"),
    (("sessions", "bot", "--id", NOBODY), "not found"),
    (("stop", "bot", "--session-id", "x", "--force"), "A session's id is a UUID"),
]
"""What is asked, and a part of what is told."""
START = ("start", "bot", "--force", "--use-daily")
REFUSED = [
    (("sessions", "bot"), {"PIPECAT_TOKEN": "web"}, "private_key_required", "A public API key may only start"),
    (("sessions", "bot"), {"PIPECAT_TOKEN": "bound"}, "404", "There is no Bot 'bot'"),
    ((*START, "--daily-properties", '{"enable_recording": "cloud"}'), {}, "forbidden", "may not ask for recording"),
]
"""What is asked, with which other key; the code and a part of the text that is told.

Of a start it tells no 404, and calls it a success.
"""
UNKNOWN = [
    (("sessions", "bot"), "PIPECAT_TOKEN"),
    (("stop", "bot", "--session-id", NOBODY, "--force"), "PIPECAT_TOKEN"),
    (("logs", "bot"), "PIPECAT_TOKEN"),
    (START, "PIPECAT_TOKEN"),
    (START, "PIPECAT_DEFAULT_PUBLIC_KEY"),
]
"""What is asked, and which key is none. Logs are not served here."""


ROOM = SessionParams(use_daily=True)


def with_room(**properties: Any) -> SessionParams:
    """A start in one with these properties."""
    return SessionParams(use_daily=True, daily_room_properties=properties)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A pair to start and to manage with, and one that is bound to another Bot."""
    made = Keys(tmp_path)
    made.add("web")
    made.add("ops", "private")
    made.add("bound-web", bots=("other",))
    made.add("bound", "private", bots=("other",))
    return made


@pytest.fixture
async def gateway(operated: Operated, keys: Keys) -> AsyncIterator[Gateway]:
    """With the operator and the Bot ``bot``, for who has a key."""
    async with with_keys(operated, keys) as made:
        yield made


@pytest.fixture
async def alone(idle: Operated, keys: Keys) -> AsyncIterator[Gateway]:
    """Without an operator, for who has a key."""
    idle.bot()
    async with with_keys(idle, keys) as made:
        yield made


@pytest.fixture(autouse=True)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is changed but keys."""
    name = "alone" if "alone" in request.fixturenames else "gateway"
    monkeypatch.setenv("PIPECAT_API_HOST", request.getfixturevalue(name).url)


async def cli(keys: Keys, *arguments: str, **settings: str) -> tuple[int, Any, str]:
    """Exit code, the JSON that it printed, and what it said to people who logged in with the pair of keys."""
    folder = keys.folder.parent
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PIPECAT_TOKEN": keys.tokens["ops"],
        "PIPECAT_DEFAULT_PUBLIC_KEY": keys.tokens["web"],
        "PIPECAT_CONFIG_PATH": str(folder / "pipecatcloud.toml"),
        "PIPECAT_DEPLOY_CONFIG_PATH": str(folder / "pcc-deploy.toml"),
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLI, "--output", "json", "agent", *arguments),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), UP_S)
    return process.returncode or 0, json.loads(out) if out.strip() else None, said.decode()


async def test_the_sdk_starts_a_session_with_a_room(gateway: Gateway, operated: Operated, keys: Keys):
    params = SessionParams(use_daily=True, data={"key": "value"}, daily_room_properties={"start_video_off": False})
    answer = await Session("bot", keys.tokens["web"], params).start()
    (session,) = operated.items("botsessions")
    assert session["metadata"]["labels"]["pipecat.dev/api-key"] == "web"
    assert session["spec"]["body"] == {"key": "value"}
    assert session["spec"]["room"] == {"start_video_off": False}
    assert answer["sessionId"] == session["metadata"]["uid"]
    assert answer["dailyRoom"] == session["status"]["room"]["url"]
    assert answer["dailyToken"]


async def test_the_sdk_starts_a_session_in_a_room_of_ones_own(gateway: Gateway, operated: Operated, keys: Keys):
    data = {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}
    answer = await Session("bot", keys.tokens["web"], SessionParams(data=data)).start()
    (session,) = operated.items("botsessions")
    assert answer == {"sessionId": session["metadata"]["uid"]}
    assert session["spec"]["room"]["url"] == data["room_url"]


@pytest.mark.parametrize(
    ("who", "bot", "params", "code", "says"),
    [
        ("web", "nobody", ROOM, "404", "There is no Bot 'nobody'"),
        ("web", "bot", SessionParams(), "room_required", "createDailyRoom true"),
        ("web", "bot", with_room(exp=1), "refused", "dailyRoomProperties.exp"),
        ("web", "bot", SessionParams(use_daily=True, data={"x": "y" * 65536}), "body_too_large", "at most 65536"),
        (None, "bot", ROOM, "401", "An API key is needed"),
        ("bound-web", "bot", ROOM, "404", "There is no Bot 'bot'"),
        ("web", "bot", with_room(enable_recording="cloud"), "forbidden", "may not ask for recording"),
    ],
)
async def test_the_sdk_tells_error_and_code(
    alone: Gateway, idle: Operated, keys: Keys, who: str | None, bot: str, params: SessionParams, code: str, says: str
):
    with pytest.raises(AgentStartError, match=says) as caught:
        await Session(bot, keys.tokens[who] if who else STRANGER, params).start()
    assert caught.value.error_code == code
    assert idle.items("botsessions") == []


async def test_the_sdk_tells_a_capacity_that_is_reached(alone: Gateway, idle: Operated, keys: Keys):
    asking = asyncio.create_task(Session("bot", keys.tokens["web"], ROOM).start())
    sessions = await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    told = json.dumps({"status": {"phase": "Failed", "endReason": "CapacityReached", "message": "3 of 3."}})
    name = sessions[0]["metadata"]["name"]
    idle.kubectl("patch", "botsession", name, "--subresource=status", "--type=merge", "-p", told)
    with pytest.raises(AgentStartError, match="PCC-AGENT-AT-CAPACITY: 3 of 3") as caught:
        await asking
    assert caught.value.error_code == "429"


async def test_the_cli_starts_lists_reads_and_stops(gateway: Gateway, operated: Operated, keys: Keys):
    code, answer, said = await cli(keys, *START, "--data", '{"lang": "en"}')
    assert (code, set(answer)) == (0, {"dailyRoom", "dailyToken", "sessionId"}), said
    uid = answer["sessionId"]
    (session,) = operated.items("botsessions")
    name = session["metadata"]["name"]
    assert (session["metadata"]["uid"], session["spec"]["body"]) == (uid, {"lang": "en"})
    assert session["metadata"]["labels"]["pipecat.dev/api-key"] == "web"
    await asyncio.to_thread(operated.until_phase, "Running", name=name)

    code, answer, said = await cli(keys, "sessions", "bot")
    assert (code, [each["sessionId"] for each in answer["sessions"]]) == (0, [uid]), said
    code, answer, said = await cli(keys, "sessions", "bot", "--end-state", "completed")
    assert (code, answer["sessions"]) == (0, []), said

    code, _, said = await cli(keys, "stop", "bot", "--session-id", uid, "--force")
    assert code == 0, said
    await asyncio.to_thread(operated.until_ended, name)
    async with asyncio.timeout(UP_S):
        while (answer := (await cli(keys, "sessions", "bot", "--id", uid))[1])["endState"] == "active":
            continue
    assert (answer["endState"], answer["endReason"]) == ("terminated", "Stopped")


async def test_the_cli_tells_what_is_wrong(alone: Gateway, keys: Keys):
    for arguments, says in SAID:
        code, answer, said = await cli(keys, *arguments)
        assert code != 0, arguments
        assert says in " ".join((json.dumps(answer) + said).split())


async def test_the_cli_tells_what_a_key_may_not(alone: Gateway, idle: Operated, keys: Keys):
    for arguments, others, wanted, says in REFUSED:
        settings = {name: keys.tokens[key_id] for name, key_id in others.items()}
        code, answer, said = await cli(keys, *arguments, **ORG, **settings)
        assert (code, answer["error"]["code"]) == (1, wanted), said
        assert f"API Error: {answer['error']['error']}" in said
        assert says in said
    assert idle.items("botsessions") == []


async def test_the_cli_knows_a_key_that_is_refused(alone: Gateway, idle: Operated, keys: Keys):
    """It says so in its own words, and how to log in."""
    for arguments, which in UNKNOWN:
        code, answer, said = await cli(keys, *arguments, **ORG, **{which: STRANGER})
        assert (code, answer["error"]["code"]) == (1, "401"), said
        assert "Unauthorized (401)" in said
        assert "auth login" in said
        assert "API Error" not in said
    assert idle.items("botsessions") == []
