"""What docs/migrate-from-pipecat-cloud.md says and no other test shows."""

import asyncio
import json
from pathlib import Path
from typing import Any

from pipecat_local.processes import until
from support.gateway import UP_S, Gateway
from support.operated import Operated

START = "/v1/public/bot/start"
SESSIONS = "/v1/agents/bot/sessions"
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


async def started(gateway: Gateway, **more: Any) -> str:
    """The id of a session whose bot is in the room."""
    request = json.dumps({"createDailyRoom": True, **more})
    status, told = await gateway.call("POST", f"{START}?wait=joined", request)
    assert status == 200, told
    return str(told["sessionId"])


async def test_a_session_that_is_stopped_is_told_to_end(gateway: Gateway, operated: Operated):
    """A bot that does not listen has its grace."""
    uid = await started(gateway, body={"deaf": True})
    status, told = await gateway.call("DELETE", f"{SESSIONS}/{uid}")
    assert (status, told["status"]) == (200, "terminated")
    (session,) = operated.items("botsessions")
    name = session["metadata"]["name"]
    ending = await asyncio.to_thread(operated.until_phase, "Ending", name=name)
    assert (await gateway.call("GET", f"{SESSIONS}/{uid}"))[1]["endState"] == "active"
    operated.kubectl("delete", "pod", ending["podName"], "--force", "--grace-period=0")
    assert (await asyncio.to_thread(operated.until_ended, name))["endReason"] == "Stopped"


async def test_a_session_that_has_ended_is_told_until_its_ttl(gateway: Gateway, operated: Operated):
    operated.bot(session={"ttlSecondsAfterFinished": 2})
    uid = await started(gateway)
    _, told = await gateway.call("GET", f"{SESSIONS}/{uid}")
    assert (told["resourceMetrics"], told["meetingIds"]) == (None, [])
    await gateway.call("DELETE", f"{SESSIONS}/{uid}")

    async def gone() -> bool:
        return (await gateway.call("GET", f"{SESSIONS}/{uid}"))[0] == 404

    await until("the session to go", gone, UP_S)
    assert (await gateway.call("GET", SESSIONS))[1] == {"total_count": 0, "sessions": []}
    assert operated.items("botsessions") == []


async def test_a_start_that_failed_is_answered_again_until_its_session_is_gone(gateway: Gateway, operated: Operated):
    request = json.dumps({"createDailyRoom": True, "dailyRoomProperties": {"enable_chat": "maybe"}})
    answers = [await gateway.call("POST", START, request, headers=KEY) for _ in range(2)]
    status, told = answers[0]
    assert (status, told["code"]) == (400, "refused")
    assert answers[1] == answers[0]
    (first,) = operated.items("botsessions")
    operated.kubectl("delete", "botsession", first["metadata"]["name"])
    assert (await gateway.call("POST", START, request, headers=KEY))[0] == 400
    (second,) = operated.items("botsessions")
    assert second["metadata"]["name"] == first["metadata"]["name"]
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_a_request_that_was_refused_before_there_was_a_session_is_forgotten(alone: Gateway):
    """Then the key may be of another request."""
    for request, code in (("{}", "room_required"), ('{"transport": "webrtc"}', "unsupported_transport")):
        status, told = await alone.call("POST", START, request, headers=KEY)
        assert (status, told["code"]) == (400, code)


async def test_a_start_that_was_waited_for_in_vain_goes_on(idle: Operated, tmp_path: Path):
    """Without an operator; a start without a key is stopped then."""
    idle.bot()
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_START_TIMEOUT_SECONDS="0.5")
    for _ in range(2):
        status, told = await gateway.call("POST", START, '{"createDailyRoom": true}', headers=KEY)
        assert (status, told["code"]) == (504, "timeout")
    (session,) = idle.items("botsessions")
    assert session["spec"]["stop"] is False
    await gateway.close()
