"""The gateway as a process, beside the real operator."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pipecat_local.controlplane import free_ports
from pipecat_local.processes import wait_until
from support.operated import Child, Operated, get

UP_S = 30.0


class Gateway:
    """One, and a client of it."""

    def __init__(self, of: Operated, log: Path, **settings: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        env = {
            "KUBECONFIG": str(of.cluster.kubeconfig),
            "PIPECAT_GATEWAY_NAMESPACE": of.namespace,
            "PIPECAT_GATEWAY_BOT": "bot",
            "PIPECAT_GATEWAY_PORT": str(port),
            **settings,
        }
        self.child = Child([sys.executable, "-m", "pipecat_gateway"], env, log, announces=False)
        wait_until("the gateway", lambda: get(f"{self.url}/readyz")[0] == 200 or self.child.ended() is not None, UP_S)
        assert self.child.ended() is None, self.child.log()
        self.http = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=60))

    async def call(self, method: str, path: str, data: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON; every body of an error has string error and code."""
        async with self.http.request(method, path, data=data, **more) as answer:
            body: dict[str, Any] = await answer.json()
            if answer.status >= 400:
                assert isinstance(body["error"], str)
                assert isinstance(body["code"], str)
            return answer.status, body

    async def close(self) -> None:
        """End it; it must not have told a token."""
        await self.http.close()
        if self.child.ended() is None:
            assert self.child.stop() == 0
        assert "eyJ" not in self.child.log(), "a token was logged"


@pytest.fixture
async def gateway(operated: Operated, tmp_path: Path) -> AsyncIterator[Gateway]:
    """With the operator and the Bot ``bot``."""
    made = Gateway(operated, tmp_path / "gateway.log")
    yield made
    await made.close()


@pytest.fixture
async def alone(idle: Operated, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Without an operator: nothing it starts gets anywhere."""
    idle.bot()
    made = Gateway(idle, tmp_path / "gateway.log")
    yield made
    await made.close()


async def test_the_guides_start_answers_when_the_bot_is_in_the_room(gateway: Gateway, operated: Operated):
    status, answer = await gateway.call("POST", "/start_bot")
    assert (status, set(answer)) == (200, {"room_url", "token"})
    (session,) = operated.items("botsessions")
    assert session["status"]["phase"] == "Running"
    assert answer["room_url"] == session["status"]["room"]["url"]


@pytest.mark.parametrize("path", ["/start", "/v1/public/bot/start"])
async def test_a_start_answers_as_soon_as_room_and_token_stand(gateway: Gateway, operated: Operated, path: str):
    request = {"createDailyRoom": True, "body": {"join": False}, "dailyRoomProperties": {"enable_chat": True}}
    status, answer = await gateway.call("POST", path, json.dumps(request))
    assert (status, set(answer)) == (200, {"dailyRoom", "dailyToken", "sessionId"})
    (session,) = operated.items("botsessions")
    assert answer["sessionId"] == session["metadata"]["uid"]
    assert session["spec"]["room"] == {"enable_chat": True}
    assert session["status"]["phase"] == "Starting"


async def test_a_session_is_read_and_stopped(gateway: Gateway, operated: Operated):
    _, answer = await gateway.call("POST", "/start", json.dumps({"body": {"lang": "en"}}))
    path = f"/sessions/{answer['sessionId']}"
    status, told = await gateway.call("GET", path)
    assert (status, told["bot"], told["dailyRoom"]) == (200, "bot", answer["dailyRoom"])
    assert "dailyToken" not in told
    status, told = await gateway.call("DELETE", path)
    assert (status, told) == (200, {"status": "terminated", "session_id": answer["sessionId"]})
    (name,) = [session["metadata"]["name"] for session in operated.items("botsessions")]
    await asyncio.to_thread(operated.until_ended, name)
    _, told = await gateway.call("GET", path)
    assert (told["phase"], told["endReason"]) == ("Succeeded", "Stopped")


async def test_one_that_somebody_else_made_a_moment_ago_is_found(alone: Gateway, idle: Operated):
    uid = idle.session()
    status, told = await alone.call("GET", f"/sessions/{uid}")
    assert (status, told["phase"]) == (200, "Pending")


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "code"),
    [
        ("POST", "/start", "{", 400, "bad_json"),
        ("POST", "/start_bot", "[1]", 400, "bad_json"),
        ("POST", "/start", '{"transport": "webrtc"}', 400, "unsupported_transport"),
        ("POST", "/v1/public/nobody/start", "{}", 404, "unknown_bot"),
        ("POST", "/start", '{"dailyRoomProperties": {"exp": 1}}', 400, "refused"),
        ("POST", "/start", json.dumps({"body": {"x": "y" * 64 * 1024}}), 413, "body_too_large"),
        ("POST", "/start", "x" * 100_000, 413, "too_large"),
        ("GET", "/sessions/nobody", None, 404, "not_found"),
        ("DELETE", "/sessions/nobody", None, 404, "not_found"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/start", None, 405, "method_not_allowed"),
    ],
)
async def test_what_cannot_be_is_told_clearly(
    alone: Gateway, idle: Operated, method: str, path: str, data: str | None, status: int, code: str
):
    answered, body = await alone.call(method, path, data)
    assert (answered, body["code"]) == (status, code)
    assert idle.items("botsessions") == []


async def test_the_api_servers_words_reach_the_caller(alone: Gateway):
    _, body = await alone.call("POST", "/start", '{"dailyRoomProperties": {"exp": 1}}')
    assert "set spec.session.maxDurationSeconds instead" in body["error"]


async def test_a_quota_is_told(alone: Gateway, idle: Operated):
    idle.kubectl("create", "quota", "none", "--hard=count/botsessions.pipecat.dev=0")
    used = lambda: "used" in idle.get("quota", "none").get("status", {})  # noqa: E731
    wait_until("the quota to bind", used, 40)
    status, body = await alone.call("POST", "/start")
    assert (status, body["code"]) == (403, "forbidden")
    assert "exceeded quota" in body["error"]


async def test_a_session_that_fails_says_why(gateway: Gateway, operated: Operated):
    operated.bot("crooked", podTemplate={"spec": {"restartPolicy": "Always"}})
    status, body = await gateway.call("POST", "/v1/public/crooked/start")
    assert (status, body["code"]) == (502, "InvalidPodTemplate")
    assert "restartPolicy must stay Never" in body["error"]


async def test_one_that_takes_too_long_is_stopped(idle: Operated, tmp_path: Path):
    idle.bot()
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_START_TIMEOUT_SECONDS="1")
    status, body = await gateway.call("POST", "/start")
    assert (status, body["code"]) == (504, "timeout")
    assert [session["spec"]["stop"] for session in idle.items("botsessions")] == [True]
    await gateway.close()


async def test_a_caller_who_goes_away_leaves_no_session(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(alone.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    stopped = lambda: all(session["spec"]["stop"] for session in idle.items("botsessions"))  # noqa: E731
    await asyncio.to_thread(wait_until, "its stop", stopped, UP_S)


async def test_starts_in_flight_are_answered_on_sigterm(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(alone.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    os.kill(alone.child.pid, 15)
    await asyncio.to_thread(idle.start)
    status, answer = await asking
    assert (status, set(answer)) == (200, {"dailyRoom", "dailyToken", "sessionId"})
    await asyncio.to_thread(wait_until, "its end", lambda: alone.child.ended() == 0, UP_S)


@pytest.mark.parametrize(("origins", "allowed"), [("", None), ("https://app.test", "https://app.test"), ("*", "*")])
async def test_cors_is_closed_unless_set(idle: Operated, tmp_path: Path, origins: str, allowed: str | None):
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_CORS_ORIGINS=origins)
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    async with gateway.http.options("/start", headers=headers) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    await gateway.close()


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ({"PIPECAT_GATEWAY_HOST": "0.0.0.0"}, [], "--insecure"),
        ({"PIPECAT_GATEWAY_PORT": "x", "PIPECAT_GATEWAY_BOT": ""}, [], "PIPECAT_GATEWAY_BOT"),
        ({"PIPECAT_GATEWAY_PORT": "x", "PIPECAT_GATEWAY_BOT": ""}, [], "PIPECAT_GATEWAY_PORT"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, settings: dict[str, str], arguments: list[str], says: str):
    child = Child([sys.executable, "-m", "pipecat_gateway", *arguments], settings, tmp_path / "log", announces=False)
    wait_until("its end", lambda: child.ended() is not None, UP_S)
    assert child.ended() == 78
    assert says in child.log()


async def test_metrics(alone: Gateway):
    await alone.call("POST", "/v1/public/nobody/start")
    text = get(f"{alone.url}/metrics")[1]
    assert 'route="/v1/public/{bot}/start",status="404"} 1.0' in text
