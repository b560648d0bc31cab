"""Pipecat Cloud's own SDK and CLI, as published, called with another host and nothing else changed."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pipecatcloud.exception import AgentStartError
from pipecatcloud.session import Session, SessionParams

from pipecat_local.processes import wait_until
from support.gateway import UP_S, Gateway
from support.operated import Operated

CLI = "from pipecatcloud.cli.entry_point import entrypoint_cli_typer as cli; cli()"
NOBODY = "00000000-0000-0000-0000-000000000000"


SAID = [
    (("start", "nobody", "--force", "--api-key", "pk_public", "--use-daily"), "does not exist"),
    (("start", "bot", "--force", "--api-key", "pk_public"), "createDailyRoom true"),
    (("sessions", "nobody"), "There is no Bot 'nobody'"),
    (("sessions", "bot", "--id", NOBODY), "not found"),
    (("stop", "bot", "--session-id", "x", "--force"), "A session's id is a UUID"),
]
"""What is asked, and a part of what is told."""


@pytest.fixture(autouse=True)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is changed."""
    name = "alone" if "alone" in request.fixturenames else "gateway"
    monkeypatch.setenv("PIPECAT_API_HOST", request.getfixturevalue(name).url)


async def cli(folder: Path, *arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON that it printed, and what it said to people."""
    environment = {
        **os.environ,
        "HOME": str(folder),
        "PIPECAT_TOKEN": "sk_private",
        "PIPECAT_CONFIG_PATH": str(folder / "pipecatcloud.toml"),
        "PIPECAT_DEPLOY_CONFIG_PATH": str(folder / "pcc-deploy.toml"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLI, "--output", "json", *arguments),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(process.communicate(), UP_S)
    return process.returncode or 0, json.loads(out) if out.strip() else None, said.decode()


async def test_the_sdk_starts_a_session_with_a_room(gateway: Gateway, operated: Operated):
    params = SessionParams(use_daily=True, data={"key": "value"}, daily_room_properties={"start_video_off": False})
    answer = await Session("bot", "pk_public", params).start()
    (session,) = operated.items("botsessions")
    assert session["spec"]["body"] == {"key": "value"}
    assert session["spec"]["room"] == {"start_video_off": False}
    assert answer["sessionId"] == session["metadata"]["uid"]
    assert answer["dailyRoom"] == session["status"]["room"]["url"]
    assert answer["dailyToken"]


async def test_the_sdk_starts_a_session_in_a_room_of_ones_own(gateway: Gateway, operated: Operated):
    data = {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}
    answer = await Session("bot", "pk_public", SessionParams(data=data)).start()
    (session,) = operated.items("botsessions")
    assert answer == {"sessionId": session["metadata"]["uid"]}
    assert session["spec"]["room"]["url"] == data["room_url"]


@pytest.mark.parametrize(
    ("bot", "params", "code", "says"),
    [
        ("nobody", SessionParams(use_daily=True), "404", "There is no Bot 'nobody'"),
        ("bot", SessionParams(), "room_required", "createDailyRoom true"),
        ("bot", SessionParams(use_daily=True, daily_room_properties={"exp": 1}), "refused", "dailyRoomProperties.exp"),
        ("bot", SessionParams(use_daily=True, data={"x": "y" * 65536}), "body_too_large", "at most 65536"),
    ],
)
async def test_the_sdk_tells_error_and_code(alone: Gateway, bot: str, params: SessionParams, code: str, says: str):
    with pytest.raises(AgentStartError, match=says) as caught:
        await Session(bot, "pk_public", params).start()
    assert caught.value.error_code == code


async def test_the_sdk_tells_a_capacity_that_is_reached(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(Session("bot", "pk_public", SessionParams(use_daily=True)).start())
    sessions = await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    told = json.dumps({"status": {"phase": "Failed", "endReason": "CapacityReached", "message": "3 of 3."}})
    name = sessions[0]["metadata"]["name"]
    idle.kubectl("patch", "botsession", name, "--subresource=status", "--type=merge", "-p", told)
    with pytest.raises(AgentStartError, match="PCC-AGENT-AT-CAPACITY: 3 of 3") as caught:
        await asking
    assert caught.value.error_code == "429"


async def test_the_cli_starts_lists_reads_and_stops(gateway: Gateway, operated: Operated, tmp_path: Path):
    start = ("agent", "start", "bot", "--force", "--api-key", "pk_public", "--use-daily", "--data", '{"lang": "en"}')
    code, answer, said = await cli(tmp_path, *start)
    assert (code, set(answer)) == (0, {"dailyRoom", "dailyToken", "sessionId"}), said
    uid = answer["sessionId"]
    (session,) = operated.items("botsessions")
    name = session["metadata"]["name"]
    assert (session["metadata"]["uid"], session["spec"]["body"]) == (uid, {"lang": "en"})
    await asyncio.to_thread(operated.until_phase, "Running", name=name)

    code, answer, said = await cli(tmp_path, "agent", "sessions", "bot")
    assert (code, [each["sessionId"] for each in answer["sessions"]]) == (0, [uid]), said
    code, answer, said = await cli(tmp_path, "agent", "sessions", "bot", "--end-state", "completed")
    assert (code, answer["sessions"]) == (0, []), said

    code, _, said = await cli(tmp_path, "agent", "stop", "bot", "--session-id", uid, "--force")
    assert code == 0, said
    await asyncio.to_thread(operated.until_ended, name)
    async with asyncio.timeout(UP_S):
        while (answer := (await cli(tmp_path, "agent", "sessions", "bot", "--id", uid))[1])["endState"] == "active":
            continue
    assert (answer["endState"], answer["endReason"]) == ("terminated", "Stopped")


async def test_the_cli_tells_what_is_wrong(alone: Gateway, tmp_path: Path):
    for arguments, says in SAID:
        code, answer, said = await cli(tmp_path, "agent", *arguments)
        assert code != 0, arguments
        assert says in " ".join((json.dumps(answer) + said).split())
