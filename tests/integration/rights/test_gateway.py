"""Each right of the gateway is taken away in turn: its callers are told, and its log says which right is missing."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from pipecat_gateway.sessions import start
from pipecat_gateway.wire import idempotency
from pipecat_local.processes import wait_until
from support.gateway import Gateway
from support.operated import Operated, get, manifest
from support.rights import GATEWAY, Right, rights_of

RIGHTS: Final = rights_of(GATEWAY)
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
TOLD_S: Final = 20.0
CLOUD: Final = "/v1/public/bot/start"
OWN_ROOM: Final = {"body": {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}}


def refused_before(operated: Operated, key: str) -> None:
    """A session that capacity refused, whose gateway ended before it deleted it."""
    name = idempotency.name_of("default", "anonymous", key)
    asked = start.asked(start.start_of("bot", {"createDailyRoom": True}))
    made = manifest("BotSession", name, {"botRef": {"name": "nobody"}})
    made["metadata"]["annotations"] = {start.ANNOTATION_FINGERPRINT: idempotency.fingerprint_of(key, asked)}
    operated.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    status = {"status": {"phase": "Failed", "endReason": "CapacityReached"}}
    operated.kubectl("patch", "bs", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))


async def used(gateway: Gateway, uid: str, key: str) -> list[tuple[int, dict[str, Any]]]:
    """What is answered to who starts a session, reads it, stops it, and asks for one that is not there.

    Then to who starts one in a room of one's own, and who tries again what capacity refused.
    """
    again = {"headers": {"Idempotency-Key": f'"{key}"'}}
    calls: list[tuple[str, str, str | None, dict[str, Any]]] = [
        ("POST", "/start", None, {}),
        *(("GET", f"/sessions/{each}", None, {}) for each in (uid, NOBODY)),
        ("DELETE", f"/sessions/{uid}", None, {}),
        ("POST", CLOUD, json.dumps(OWN_ROOM), {}),
        ("POST", CLOUD, '{"createDailyRoom": true}', again),
    ]
    return list(await asyncio.gather(*(gateway.call(*call, **more) for *call, more in calls)))


async def test_with_all_of_them_nothing_is_refused(operated: Operated, tmp_path: Path):
    gateway = await asyncio.to_thread(Gateway, operated, tmp_path / "gateway.log")
    refused_before(operated, "again")
    answers = await used(gateway, operated.session(), "again")
    assert [status for status, _ in answers] == [200, 200, 404, 200, 200, 429]
    assert "forbidden" not in gateway.child.log()
    await gateway.close()


@pytest.mark.parametrize("resource", dict.fromkeys(right.resource for right in RIGHTS))
async def test_without_one_of_them_what_is_missing_is_told(operated: Operated, tmp_path: Path, resource: str):
    uid = operated.session()
    async with asyncio.TaskGroup() as group:
        for right in RIGHTS:
            if right.resource == resource:
                group.create_task(without(operated, tmp_path / f"{right.verb}.log", right, uid), name=str(right))


async def without(operated: Operated, log: Path, right: Right, uid: str) -> None:
    """A gateway that lacks it."""
    settings = {"PIPECAT_GATEWAY_START_TIMEOUT_SECONDS": "12"}
    gateway = await asyncio.to_thread(Gateway, operated, log, right, **settings)
    refused_before(operated, right.verb)
    answers = await used(gateway, uid, right.verb)
    await asyncio.to_thread(wait_until, f"a word on {right}", lambda: told(gateway, right), TOLD_S)
    # Without a watch it lists now and then: answers come late. What is refused is, deleted or not.
    if right.verb not in ("watch", "delete"):
        assert (503 if right.verb == "list" else 500) in [status for status, _ in answers]
    assert [body for status, body in answers if status == 500 and "its log says" not in body["error"]] == []
    if right.verb == "list":
        assert get(f"{gateway.url}/readyz") == (503, "the sessions are not listed yet: the log says why\n")
    await gateway.close()


def told(gateway: Gateway, right: Right) -> bool:
    """Whether a warning says that it is missing."""
    return any(right.refusal in line for line in gateway.child.log().splitlines() if " WARNING " in line)
