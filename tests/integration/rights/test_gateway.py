"""Each right of the gateway is taken away in turn: its callers are told, and its log says which right is missing."""

import asyncio
from pathlib import Path
from typing import Any, Final

import pytest

from pipecat_local.processes import wait_until
from support.gateway import Gateway
from support.operated import Operated, get
from support.rights import GATEWAY, Right, rights_of

RIGHTS: Final = rights_of(GATEWAY)
NOBODY: Final = "00000000-0000-0000-0000-000000000000"
TOLD_S: Final = 20.0


async def used(gateway: Gateway, uid: str) -> list[tuple[int, dict[str, Any]]]:
    """What is answered to who starts a session, reads it, stops it, and asks for one that is not there."""
    paths = [
        ("POST", "/start"),
        *(("GET", f"/sessions/{each}") for each in (uid, NOBODY)),
        ("DELETE", f"/sessions/{uid}"),
    ]
    return list(await asyncio.gather(*(gateway.call(method, path) for method, path in paths)))


async def test_with_all_of_them_nothing_is_refused(operated: Operated, tmp_path: Path):
    gateway = await asyncio.to_thread(Gateway, operated, tmp_path / "gateway.log")
    answers = await used(gateway, operated.session())
    assert [status for status, _ in answers] == [200, 200, 404, 200]
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
    answers = await used(gateway, uid)
    await asyncio.to_thread(wait_until, f"a word on {right}", lambda: told(gateway, right), TOLD_S)
    # Without a watch it lists now and then: answers come late.
    if right.verb != "watch":
        assert (500, "misconfigured") in [(status, body.get("code")) for status, body in answers]
    assert [body for status, body in answers if status == 500 and "its log says" not in body["error"]] == []
    if right.verb == "list":
        assert get(f"{gateway.url}/readyz") == (503, "the sessions are not listed yet: the log says why\n")
    await gateway.close()


def told(gateway: Gateway, right: Right) -> bool:
    """Whether a warning says that it is missing."""
    return any(right.refusal in line for line in gateway.child.log().splitlines() if " WARNING " in line)
