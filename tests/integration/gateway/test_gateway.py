"""The gateway as a process, beside the real operator."""

import asyncio
import json
import os
import re
import socket
import sys
from pathlib import Path

import pytest
from yarl import URL

from pipecat_local.processes import wait_until
from support.gateway import NOBODY, UP_S, Gateway, gateway_account, gateway_behind, way
from support.operated import Child, Operated, get
from support.proxy import Fault, Late, Ledger, Proxy

CREATE = '{"createDailyRoom": true}'


async def until_all_stopped(idle: Operated) -> None:
    """The one session that was made is told to stop."""

    def stopped() -> bool:
        return [session["spec"]["stop"] for session in idle.items("botsessions")] == [True]

    await asyncio.to_thread(wait_until, "its stop", stopped, UP_S)


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
        ("POST", "/v1/public/nobody/start", '{"createDailyRoom": true}', 404, "404"),
        ("POST", "/start", '{"dailyRoomProperties": {"exp": 1}}', 400, "refused"),
        (
            "POST",
            "/start",
            '{"dailyRoomProperties": {"url": "https://x", "tokenSecretRef": {"name": "bot-keys"}}}',
            400,
            "bad_request",
        ),
        ("POST", "/start", '{"body": ' + '{"a":' * 150 + "1" + "}" * 150 + "}", 400, "bad_json"),
        ("POST", "/start", json.dumps({"body": {"x": "y" * 64 * 1024}}), 413, "body_too_large"),
        ("POST", "/start", "x" * 300_000, 413, "too_large"),
        ("POST", URL("/v1/public/..%2Fbots%2Fbot/start", encoded=True), CREATE, 404, "404"),
        ("POST", URL("/v1/public/bot%3Fx=y/start", encoded=True), CREATE, 404, "404"),
        ("GET", "/sessions/nobody", None, 404, "not_found"),
        ("GET", "/sessions/00000000-0000-0000-0000-000000000000", None, 404, "not_found"),
        ("DELETE", "/sessions/nobody", None, 404, "not_found"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("GET", "/start", None, 405, "method_not_allowed"),
    ],
)
async def test_what_cannot_be_is_told_clearly(
    alone: Gateway, idle: Operated, method: str, path: str | URL, data: str | None, status: int, code: str
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
    status, body = await gateway.call("POST", "/v1/public/crooked/start", CREATE)
    assert (status, body["code"]) == (502, "InvalidPodTemplate")
    assert "restartPolicy must stay Never" in body["error"]


async def test_one_that_takes_too_long_is_stopped(idle: Operated, tmp_path: Path):
    idle.bot()
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_START_TIMEOUT_SECONDS="1")
    status, body = await gateway.call("POST", "/start")
    assert (status, body["code"]) == (504, "timeout")
    await until_all_stopped(idle)
    await gateway.close()


async def test_a_caller_who_goes_away_leaves_no_session(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(alone.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until_all_stopped(idle)
    assert 'starts_total{bot="bot",endpoint="/start",outcome="gone"} 1.0' in get(f"{alone.url}/metrics")[1]


async def test_a_caller_who_goes_away_while_the_session_is_made_leaves_none(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    answered = asyncio.Event()
    ledger.rule = lambda call: Late(until=answered) if call.method == "POST" else None
    asking = asyncio.create_task(gateway.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    gone = lambda: "POST /start 499 gone" in gateway.child.log()  # noqa: E731
    await asyncio.to_thread(wait_until, "the gateway to notice", gone, UP_S)
    answered.set()
    await until_all_stopped(idle)
    await gateway.close()


async def test_a_session_whose_making_was_not_answered_is_stopped(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    ledger.rule = lambda call: Fault(carried_out=True) if call.method == "POST" else None
    status, body = await gateway.call("POST", "/start")
    assert (status, body["code"]) == (503, "unavailable")
    await until_all_stopped(idle)
    await gateway.close()


async def test_a_gateway_that_cannot_watch_ends(between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path):
    proxy, ledger = between
    no_event = Fault(status=200, text='{"type": "ADDED"}\n')
    ledger.rule = lambda call: no_event if call.watch else None
    env = {"KUBECONFIG": way(proxy, idle, tmp_path), "PIPECAT_GATEWAY_NAMESPACE": idle.namespace}
    env["PIPECAT_GATEWAY_PORT"] = "0"
    child = Child([sys.executable, "-m", "pipecat_gateway"], env, tmp_path / "gateway.log", announces=False)
    await asyncio.to_thread(wait_until, "its end", lambda: child.ended() is not None, UP_S)
    assert child.ended() == 1
    assert "KeyError" in child.log()


async def test_a_session_that_is_deleted_meanwhile(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(alone.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    idle.kubectl("delete", "botsessions", "--all")
    status, body = await asking
    assert (status, body["code"]) == (502, "deleted")


async def test_a_session_that_is_gone_before_its_making_is_answered(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    answered = asyncio.Event()
    ledger.rule = lambda call: Late(until=answered) if call.method == "POST" else None
    asking = asyncio.create_task(gateway.call("POST", "/start"))

    async def until_known(count: int) -> None:
        there = lambda: json.loads(get(f"{gateway.url}/v1/agents/bot/sessions")[1]).get("total_count") == count  # noqa: E731
        await asyncio.to_thread(wait_until, f"the watch to tell of {count}", there, UP_S)

    await until_known(1)
    idle.kubectl("delete", "botsessions", "--all")
    await until_known(0)
    answered.set()
    status, body = await asking
    assert (status, body["code"]) == (502, "deleted")
    await gateway.close()


async def test_an_unknown_id_costs_the_api_server_nothing(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    until = lambda: get(f"{gateway.url}/v1/agents/bot/sessions")[0] == 200  # noqa: E731
    await asyncio.to_thread(wait_until, "the list", until, UP_S)
    before = len(ledger.calls)
    asked = ("GET", f"/sessions/{NOBODY}"), ("DELETE", f"/sessions/{NOBODY}"), ("GET", "/sessions/what-is-none")
    answers = await asyncio.gather(*(gateway.call(method, path) for method, path in asked))
    assert [(status, body["code"]) for status, body in answers] == [(404, "not_found")] * 3
    assert [call.label() for call in ledger.calls[before:]] == []
    await gateway.close()


async def test_sessions_outlive_their_bot(alone: Gateway, idle: Operated):
    uid = idle.session()
    idle.kubectl("delete", "bot", "bot")
    root = "/v1/agents/bot/sessions"
    until = lambda: json.loads(get(f"{alone.url}{root}")[1]).get("total_count") == 1  # noqa: E731
    await asyncio.to_thread(wait_until, "the watch to tell of it", until, UP_S)
    for path in (root, f"{root}/{uid}"):
        status, told = await alone.call("GET", path)
        (session,) = told.get("sessions", [told])
        assert (status, session["sessionId"], session["serviceId"], session["deploymentId"]) == (200, uid, None, None)
    assert (await alone.call("GET", "/v1/agents/other/sessions"))[0] == 404
    assert (await alone.call("DELETE", f"{root}/{uid}"))[0] == 200


async def test_one_object_that_is_nested_deep_ends_nobody(gateway: Gateway, operated: Operated):
    """The API server stores what Python by default can't read."""
    body = '{"a":' + "[" * 9000 + "]" * 9000 + "}"
    deep = (
        '{"apiVersion": "pipecat.dev/v1alpha1", "kind": "BotSession", "metadata": {"name": "deep"},'
        f'"spec": {{"botRef": {{"name": "bot"}}, "body": {body}}}}}'
    )
    path = f"/apis/pipecat.dev/v1alpha1/namespaces/{operated.namespace}/botsessions"
    operated.kubectl("create", "--raw", path, "-f", "-", stdin=deep)
    status, _ = await gateway.call("POST", "/start_bot")
    assert status == 200

    def ended() -> bool:
        # Not as JSON: we are no better at reading it, and nor is the bot.
        return operated.kubectl("get", "bs", "deep", "-o", "jsonpath={.status.endReason}") == "BotFailed"

    await asyncio.to_thread(wait_until, "the deep one's end", ended, UP_S)


async def test_starts_that_take_longer_than_the_drain_are_told(idle: Operated, tmp_path: Path):
    idle.bot()
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_DRAIN_SECONDS="0.5")
    asking = asyncio.create_task(gateway.call("POST", "/start"))
    await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    os.kill(gateway.child.pid, 15)
    status, body = await asking
    assert (status, body["code"]) == (503, "shutting_down")
    await asyncio.to_thread(wait_until, "its end", lambda: gateway.child.ended() == 0, UP_S)
    await until_all_stopped(idle)
    await gateway.close()


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
    ("settings", "says"),
    [
        ({"PIPECAT_GATEWAY_HOST": "0.0.0.0"}, ["--insecure"]),
        (
            {"PIPECAT_GATEWAY_PORT": "x", "PIPECAT_GATEWAY_BOT": "", "PIPECAT_GATEWAY_NAMESPACE": "a/b"},
            ["PIPECAT_GATEWAY_BOT", "PIPECAT_GATEWAY_PORT", "PIPECAT_GATEWAY_NAMESPACE"],
        ),
        ({"KUBECONFIG": "/nowhere", "HOME": "/nowhere"}, ["No Kubernetes credentials"]),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, settings: dict[str, str], says: list[str]):
    child = Child([sys.executable, "-m", "pipecat_gateway"], settings, tmp_path / "log", announces=False)
    wait_until("its end", lambda: child.ended() is not None, UP_S)
    assert child.ended() == 78
    assert [word for word in says if word not in child.log()] == []
    assert "Traceback" not in child.log()


def test_a_port_that_is_taken(idle: Operated, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {
            "KUBECONFIG": str(gateway_account(idle).kubeconfig()),
            "PIPECAT_GATEWAY_PORT": str(taken.getsockname()[1]),
        }
        child = Child([sys.executable, "-m", "pipecat_gateway"], env, tmp_path / "log", announces=False)
        wait_until("its end", lambda: child.ended() is not None, UP_S)
    assert child.ended() == 78
    assert "PIPECAT_GATEWAY_PORT: the gateway can't listen there" in child.log()
    assert "Traceback" not in child.log()


async def test_metrics(alone: Gateway):
    await alone.call("POST", "/v1/public/nobody/start", '{"createDailyRoom": true}')
    text = get(f"{alone.url}/metrics")[1]
    assert 'route="/v1/public/{bot}/start",status="404"} 1.0' in text
    assert 'starts_total{bot="",endpoint="/v1/public/{bot}/start",outcome="unknown_bot"} 1.0' in text
    assert 'start_seconds_count{bot="",outcome="unknown_bot"} 1.0' in text


async def test_one_line_a_request_whatever_is_asked(alone: Gateway):
    before = len(alone.child.log().splitlines())
    for path in ("/a%0AFAKE", "/b%0D%0AFAKE", "/c%1B[2J?token=eyJsecret"):
        await alone.call("GET", URL(path, encoded=True))
    lines = alone.child.log().splitlines()[before:]
    assert [re.sub(r"^.*? GET", "GET", line).rsplit(" ", 2)[0] for line in lines] == [
        "GET /a%0AFAKE 404 not_found",
        "GET /b%0D%0AFAKE 404 not_found",
        "GET /c%1B[2J 404 not_found",
    ]
