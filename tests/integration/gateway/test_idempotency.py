"""Idempotency-Key: any number of tries, wherever they arrive, are one session."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.processes import wait_until
from support.gateway import UP_S, Gateway, gateway_behind
from support.operated import Operated
from support.proxy import Fault, Ledger, Proxy

START = "/v1/public/bot/start"
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}
CREATE = json.dumps({"createDailyRoom": True, "body": {"lang": "en"}})
OWN = json.dumps({"body": {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}})

Answer = tuple[int, dict[str, Any]]


@pytest.fixture
async def replicas(operated: Operated, tmp_path: Path) -> AsyncIterator[list[Gateway]]:
    """Two, beside an operator."""
    made = [await asyncio.to_thread(Gateway, operated, tmp_path / f"gateway-{number}.log") for number in range(2)]
    yield made
    for gateway in made:
        await gateway.close()


def asked(gateway: Gateway, request: str = CREATE, path: str = START) -> asyncio.Task[Answer]:
    """One try."""
    return asyncio.create_task(gateway.call("POST", path, request, headers=KEY))


async def first_session(of: Operated) -> dict[str, Any]:
    """Once it is there."""
    (session,) = await asyncio.to_thread(wait_until, "the session", lambda: of.items("botsessions"), UP_S)
    return session


async def test_concurrent_duplicates_through_two_replicas_are_one_session(replicas: list[Gateway], operated: Operated):
    answers = await asyncio.gather(*(asked(gateway) for gateway in replicas * 5))
    (session,) = operated.items("botsessions")
    assert answers == [(200, answers[0][1])] * 10
    assert answers[0][1]["sessionId"] == session["metadata"]["uid"]


async def test_a_later_try_gets_the_same_answer_even_when_the_call_is_over(replicas: list[Gateway], operated: Operated):
    one, other = replicas
    first = await asked(one)
    assert await asked(other, CREATE.replace(", ", " , ")) == first
    assert await asked(other, path=f"{START}?wait=joined") == first
    await one.call("DELETE", f"/sessions/{first[1]['sessionId']}")
    await asyncio.to_thread(operated.until_ended, (await first_session(operated))["metadata"]["name"])
    assert [await asked(gateway) for gateway in replicas] == [first, first]
    assert len(operated.items("botsessions")) == 1


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        (START, '{"createDailyRoom": true, "body": {"lang": "fr"}}'),
        (START, OWN),
        ("/v1/public/other/start", CREATE),
        ("/start_bot", "{}"),
    ],
)
async def test_another_request_with_the_same_key_is_a_422(alone: Gateway, idle: Operated, path: str, request_: str):
    idle.bot("other")
    first = asked(alone)
    await first_session(idle)
    status, body = await asked(alone, request_, path)
    assert (status, body["code"]) == (422, "idempotency_key_reused")
    assert len(idle.items("botsessions")) == 1
    first.cancel()


async def test_a_malformed_key_is_a_400(alone: Gateway, idle: Operated):
    for key in ("8e03978e-40d5", '""', '"a', '"a" "b"', "é"):
        status, body = await alone.call("POST", START, CREATE, headers={"Idempotency-Key": key})
        assert (status, body["code"]) == (400, "bad_idempotency_key"), key
    assert idle.items("botsessions") == []


async def test_a_replica_killed_in_mid_start_leaves_its_session_to_the_next(idle: Operated, tmp_path: Path):
    idle.bot()
    one, other = [await asyncio.to_thread(Gateway, idle, tmp_path / f"gateway-{number}.log") for number in range(2)]
    lost = asked(one)
    session = await first_session(idle)
    one.child.stop(kill=True)
    await asyncio.gather(lost, return_exceptions=True)
    again = asked(other)
    await asyncio.to_thread(idle.start)
    status, answer = await again
    assert (status, answer["sessionId"]) == (200, session["metadata"]["uid"])
    assert [each["spec"]["stop"] for each in idle.items("botsessions")] == [False]
    for gateway in (one, other):
        await gateway.close()


async def test_a_caller_who_may_come_back_finds_the_session(alone: Gateway, idle: Operated):
    asking = asked(alone)
    session = await first_session(idle)
    asking.cancel()
    gone = lambda: f"POST {START} 499 gone" in alone.child.log()  # noqa: E731
    await asyncio.to_thread(wait_until, "the gateway to notice", gone, UP_S)
    again = asked(alone)
    await asyncio.to_thread(idle.start)
    status, answer = await again
    assert (status, answer["sessionId"]) == (200, session["metadata"]["uid"])


async def test_a_try_after_one_that_capacity_refused_is_a_new_one(alone: Gateway, idle: Operated):
    uids = []
    for _ in range(2):
        asking = asked(alone)
        session = await first_session(idle)
        uids.append(session["metadata"]["uid"])
        told = json.dumps({"status": {"phase": "Failed", "endReason": "CapacityReached"}})
        idle.kubectl(
            "patch", "botsession", session["metadata"]["name"], "--subresource=status", "--type=merge", "-p", told
        )
        status, body = await asking
        assert (status, body["code"]) == (429, "429")
        assert idle.items("botsessions") == []
    assert uids[0] != uids[1]


async def test_a_token_that_one_replica_could_not_hand_over_is_handed_over_by_the_next(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    one = await gateway_behind(proxy, idle, tmp_path)
    other = await asyncio.to_thread(Gateway, idle, tmp_path / "other.log")
    never = asyncio.Event()
    ledger.rule = lambda call: Fault(held=never) if call.method == "POST" and call.path.endswith("/secrets") else None
    lost = asked(one, OWN)
    session = await first_session(idle)
    one.child.stop(kill=True)
    await asyncio.gather(lost, return_exceptions=True)
    again = asked(other, OWN)
    await asyncio.to_thread(idle.start)
    assert await again == (200, {"sessionId": session["metadata"]["uid"]})
    reference = session["spec"]["room"]["tokenSecretRef"]["name"]
    assert idle.get("secret", reference)["metadata"]["ownerReferences"][0]["uid"] == session["metadata"]["uid"]
    for gateway in (one, other):
        await gateway.close()
