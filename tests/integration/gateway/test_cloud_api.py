"""Pipecat Cloud's API, request by request and error by error, on the real control plane."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from pipecat_local.processes import wait_until
from support.gateway import NOBODY, UP_S, Gateway, Keys, bearer, gateway_behind, with_keys
from support.operated import Operated, get
from support.proxy import Fault, Ledger, Proxy, passing

START = "/v1/public/bot/start"
FAMILIES = ["/v1/agents/bot", "/v1/organizations/whatever/services/bot"]
OWN = {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}


def sent(**request: Any) -> str:
    """A start in a room that is made."""
    return json.dumps({"createDailyRoom": True, **request})


ERRORS: list[tuple[str, str, str | None, int, str]] = [
    ("POST", START, "{", 400, "bad_json"),
    ("POST", START, "{}", 400, "room_required"),
    ("POST", START, None, 400, "room_required"),
    ("POST", START, '{"createDailyRoom": false}', 400, "room_required"),
    ("POST", START, '{"createDailyRoom": "yes"}', 400, "bad_request"),
    ("POST", START, sent(transport="webrtc"), 400, "unsupported_transport"),
    ("POST", START, sent(transport="websocket"), 400, "unsupported_transport"),
    ("POST", START, sent(enableDefaultIceServers=True), 400, "unsupported_transport"),
    ("POST", START, sent(dailyRoomProperties={"name": "mine"}), 400, "refused"),
    ("POST", START, sent(dailyRoomProperties={"exp": 1}), 400, "refused"),
    ("POST", START, sent(dailyRoomProperties={"eject_at_room_exp": False}), 400, "refused"),
    ("POST", START, sent(dailyRoomProperties={"privacy": "org"}), 400, "bad_request"),
    ("POST", START, sent(dailyMeetingTokenProperties={"room_name": "other"}), 400, "refused"),
    ("POST", START, sent(dailyMeetingTokenProperties={"exp": 1}), 400, "refused"),
    ("POST", START, json.dumps({"body": {"room_url": "https://mine"}}), 400, "bad_request"),
    ("POST", f"{START}?wait=forever", sent(), 400, "400"),
    ("POST", "/v1/public/nobody/start", sent(), 404, "404"),
    ("POST", START, sent(body={"x": "y" * 64 * 1024}), 413, "body_too_large"),
    ("POST", START, "x" * 300_000, 413, "too_large"),
    ("GET", START, None, 405, "method_not_allowed"),
    *(
        (method, root + path, None, status, code)
        for root in FAMILIES
        for method, path, status, code in (
            ("GET", "/sessions?status=bad_value", 400, "400"),
            ("GET", "/sessions?limit=0", 400, "400"),
            ("GET", "/sessions?limit=ten", 400, "400"),
            ("GET", "/sessions?offset=-1", 400, "400"),
            ("GET", "/sessions?startType=hot", 400, "400"),
            ("GET", f"/sessions/{NOBODY}", 404, "404"),
            ("GET", "/sessions/x", 404, "404"),
            ("DELETE", f"/sessions/{NOBODY}", 404, "404"),
            ("DELETE", "/sessions/x", 400, "400"),
        )
    ),
    ("GET", "/v1/agents/nobody/sessions", None, 404, "404"),
    ("GET", "/v1/organizations/whatever/services/nobody", None, 404, "404"),
    ("GET", "/v1/agents/Nobody%3F/sessions", None, 404, "404"),
    ("GET", "/v1/agents/bot/logs", None, 404, "not_found"),
]
"""Method, path and data of a request; status and code of its answer."""
MANAGED = [
    *(
        (method, root + path)
        for root in FAMILIES
        for method, path in (("GET", "/sessions"), ("GET", f"/sessions/{NOBODY}"), ("DELETE", f"/sessions/{NOBODY}"))
    ),
    ("GET", "/v1/organizations/whatever/services/bot"),
]
"""What a private key is for, of one Bot."""
OWNERS = [
    {"dailyMeetingTokenProperties": {"is_owner": True}},
    {"dailyMeetingTokenProperties": {"permissions": {"canAdmin": True}}},
    {"dailyRoomProperties": {"permissions": {"canAdmin": ["participants"]}}},
]
RECORDING = [
    {"dailyRoomProperties": {"enable_recording": "cloud"}},
    {"dailyMeetingTokenProperties": {"start_cloud_recording": True}},
]


def decoded(secret: dict[str, Any], key: str) -> str:
    """One value of a Secret."""
    return base64.b64decode(secret["data"][key]).decode()


def claims(token: str) -> dict[str, Any]:
    """Of a token that Daily made."""
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


async def test_the_documented_start(gateway: Gateway, operated: Operated):
    request = sent(body={"custom": "data", "join": False}, dailyRoomProperties={"start_video_off": False})
    status, answer = await gateway.call("POST", START, request, headers={"Content-Type": "application/json"})
    assert (status, set(answer)) == (200, {"dailyRoom", "dailyToken", "sessionId"})
    (session,) = operated.items("botsessions")
    assert answer["sessionId"] == session["metadata"]["uid"]
    assert session["spec"]["room"] == {"start_video_off": False}
    assert session["spec"]["body"] == {"custom": "data", "join": False}
    assert session["metadata"]["labels"] == {"pipecat.dev/tenant": "default", "pipecat.dev/api-key": "anonymous"}
    assert claims(answer["dailyToken"])["o"] is False


async def test_wait_joined_answers_when_the_bot_is_in_the_room(gateway: Gateway, operated: Operated):
    status, _ = await gateway.call("POST", f"{START}?wait=joined", sent())
    assert status == 200
    assert [session["status"]["phase"] for session in operated.items("botsessions")] == ["Running"]


async def test_token_properties_shape_the_users_token_only(gateway: Gateway, operated: Operated):
    user = {"user_name": "Ada", "user_id": "7", "is_owner": True}
    _, answer = await gateway.call("POST", START, sent(dailyMeetingTokenProperties=user))
    told = claims(answer["dailyToken"])
    assert (told["u"], told["ud"], told["o"]) == ("Ada", "7", True)
    secret = operated.get("secret", f"bs-{answer['sessionId']}")
    bots = claims(decoded(secret, "botToken"))
    assert "u" not in bots
    assert told["r"] == bots["r"]
    assert told["exp"] == bots["exp"]


async def test_a_room_of_ones_own_reaches_the_bot_by_a_secret_of_the_session(gateway: Gateway, operated: Operated):
    status, answer = await gateway.call("POST", START, json.dumps({"body": {**OWN, "lang": "en"}}))
    assert (status, set(answer)) == (200, {"sessionId"})
    (session,) = operated.items("botsessions")
    assert session["spec"]["body"] == {"room_url": OWN["room_url"], "lang": "en"}
    assert OWN["token"] not in json.dumps(session)
    reference = session["spec"]["room"]["tokenSecretRef"]
    secret = operated.get("secret", reference["name"])
    assert decoded(secret, reference["key"]) == OWN["token"]
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [answer["sessionId"]]
    (container,) = operated.get("job", f"bs-{answer['sessionId']}")["spec"]["template"]["spec"]["containers"]
    (token,) = [each for each in container["env"] if each["name"] == "DAILY_ROOM_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"]["name"] == reference["name"]
    await asyncio.to_thread(operated.until_phase, "Running", name=session["metadata"]["name"])
    operated.kubectl("delete", "botsessions", "--all")
    gone = lambda: not operated.get("secret", reference["name"])  # noqa: E731
    await asyncio.to_thread(wait_until, "its Secret's end", gone, UP_S)


async def test_nothing_is_left_of_a_room_of_ones_own_whose_secret_was_refused(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    refusal = Fault(status=400, text='{"message": "no Secrets today", "reason": "BadRequest"}')
    ledger.rule = lambda call: refusal if call.method == "POST" and call.path.endswith("/secrets") else None
    status, body = await gateway.call("POST", START, json.dumps({"body": OWN}))
    assert (status, body["code"], body["error"]) == (400, "refused", "no Secrets today")
    assert idle.items("botsessions") == []
    await gateway.close()


@pytest.mark.parametrize("root", FAMILIES)
async def test_sessions_are_listed_read_and_stopped(gateway: Gateway, operated: Operated, root: str):
    ids = [(await gateway.call("POST", f"{START}?wait=joined", sent()))[1]["sessionId"] for _ in range(2)]
    operated.bot("other")
    operated.session("elsewhere", "other")
    status, told = await gateway.call("GET", f"{root}/sessions")
    assert (status, told["total_count"]) == (200, 2)
    assert {session["sessionId"] for session in told["sessions"]} == set(ids)
    bot = operated.get("bot", "bot")["metadata"]["uid"]
    for session in told["sessions"]:
        assert (session["serviceId"], session["organizationId"], session["deploymentId"]) == (bot, "default", bot)
        assert (session["endedAt"], session["completionStatus"], session["endState"]) == (None, None, "active")
        assert (session["coldStart"], session["botStartSeconds"] >= 0) == (True, True)
    status, told = await gateway.call("DELETE", f"{root}/sessions/{ids[0]}")
    assert (status, told) == (200, {"status": "terminated", "session_id": ids[0]})
    names = {each["metadata"]["uid"]: each["metadata"]["name"] for each in operated.items("botsessions")}
    await asyncio.to_thread(operated.until_ended, names[ids[0]])

    async def ended() -> dict[str, Any]:
        while (found := (await gateway.call("GET", f"{root}/sessions/{ids[0]}"))[1])["endedAt"] is None:
            continue
        return found

    told = await asyncio.wait_for(ended(), UP_S)
    assert (told["endState"], told["endReason"]) == ("terminated", "Stopped")
    assert told["completionStatus"] == "HTTP_COMPLETED"
    codes = [event["eventCode"] for event in told["events"]]
    assert codes == ["SESSION_START_INITIATED", "REQUEST_ARRIVED_AT_BOT", "SESSION_COMPLETED"]
    for query, wanted in (
        ("status=ended", ids[:1]),
        ("status=active", ids[1:]),
        ("endState=terminated", ids[:1]),
        ("startType=warm", []),
    ):
        _, told = await gateway.call("GET", f"{root}/sessions?{query}")
        assert [session["sessionId"] for session in told["sessions"]] == wanted, query
    pages = [(await gateway.call("GET", f"{root}/sessions?limit=1&offset={at}"))[1] for at in range(3)]
    assert [page["total_count"] for page in pages] == [2, 2, 2]
    assert {session["sessionId"] for page in pages for session in page["sessions"]} == set(ids)
    assert pages[2]["sessions"] == []


async def test_sessions_are_looked_for_by_deployment_time_and_start(alone: Gateway, idle: Operated):
    """The operator's part is played: how long a start takes must be known."""
    ids, made = [], []
    for name, start_s in (("a", 3), ("b", 7), ("c", None)):
        ids.insert(0, idle.session(name))
        made.insert(0, datetime.fromisoformat(idle.get("botsession", name)["metadata"]["creationTimestamp"]))
        if start_s:
            status = {"phase": "Running", "joinedAt": (made[0] + timedelta(seconds=start_s)).isoformat()}
            patch = ("--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
            idle.kubectl("patch", "botsession", name, *patch)
        # Kubernetes counts creation in whole seconds.
        over = lambda: datetime.now(UTC) >= made[0] + timedelta(seconds=1)  # noqa: E731
        await asyncio.to_thread(wait_until, "the next second", over, UP_S)
    c, b, a = ids
    at = [int(each.timestamp()) for each in made]
    bot = idle.get("bot", "bot")["metadata"]["uid"]
    # It was the last to change.
    seen = lambda: c in get(f"{alone.url}/v1/agents/bot/sessions")[1]  # noqa: E731
    await asyncio.to_thread(wait_until, "the watch", seen, UP_S)
    for query, wanted in (
        (f"deploymentId={bot}", [c, b, a]),
        (f"deploymentId={NOBODY}", []),
        (f"startTime={at[1]}", [c, b]),
        (f"startTime={at[0] + 1}", []),
        (f"endTime={at[1]}", [b, a]),
        (f"endTime={at[2] - 1}", []),
        (f"startTime={at[1]}&endTime={at[1]}", [b]),
        ("startTimeMin=0&startTimeMax=0", [c, b, a]),
        ("startTimeMin=3", [b, a]),
        ("startTimeMin=4", [b]),
        ("startTimeMin=8", []),
        ("startTimeMax=7", [b, a]),
        ("startTimeMax=6", [a]),
        ("startTimeMax=2", []),
    ):
        for root in FAMILIES:
            status, told = await alone.call("GET", f"{root}/sessions?{query}")
            assert (status, [session["sessionId"] for session in told["sessions"]]) == (200, wanted), query


async def test_a_session_of_another_bot_is_not_there(alone: Gateway, idle: Operated):
    idle.bot("other")
    uid = idle.session("elsewhere", "other")
    for root in FAMILIES:
        for method in ("GET", "DELETE"):
            status, body = await alone.call(method, f"{root}/sessions/{uid}")
            assert (status, body["code"]) == (404, "404")
    assert not idle.get("botsession", "elsewhere")["spec"]["stop"]


async def test_what_the_cli_asks_before_a_start(alone: Gateway, idle: Operated):
    idle.session()
    wait_until("the watch", lambda: get(f"{alone.url}/v1/agents/bot/sessions")[1].count("sessionId"), UP_S)
    status, told = await alone.call("GET", "/v1/organizations/whatever/services/bot")
    body = told["body"]
    assert (status, body["name"], body["ready"], body["activeSessionCount"]) == (200, "bot", True, 1)
    status, told = await alone.call("GET", "/v1/organizations")
    assert (status, told["organizations"]) == (200, [{"id": "default", "name": "default", "verboseName": "default"}])


async def test_the_documented_errors(alone: Gateway, idle: Operated):
    answers = await asyncio.gather(*(alone.call(method, path, data) for method, path, data, *_ in ERRORS))
    told = [(*error[:3], status, body["code"]) for error, (status, body) in zip(ERRORS, answers, strict=True)]
    assert [each for each in zip(told, ERRORS, strict=True) if each[0] != each[1]] == []
    assert idle.items("botsessions") == []


async def test_the_documented_refusals_of_a_key(idle: Operated, tmp_path: Path):
    idle.bot()
    keys = Keys(tmp_path)
    keys.add("web")
    keys.add("ops", "private")
    keys.add("bound-web", bots=("other",))
    keys.add("bound-ops", "private", bots=("other",))
    tokens = {**keys.tokens, "stranger": "sk_stranger_0123456789"}
    start = ("POST", START)
    managed = [*MANAGED, ("GET", "/v1/organizations")]
    expected = [
        *((who, *asked, None, 401, "401") for who in (None, "stranger") for asked in (*managed, start)),
        *(("web", *asked, None, 403, "private_key_required") for asked in managed),
        *(("bound-ops", *asked, None, 404, "404") for asked in MANAGED),
        *((who, *start, sent(), 404, "404") for who in ("bound-web", "bound-ops")),
        *((who, *start, sent(**more), 403, "forbidden") for who in ("web", "ops") for more in OWNERS + RECORDING),
        ("web", *start, None, 400, "room_required"),
        ("ops", "GET", "/v1/organizations", None, 200, None),
    ]
    async with with_keys(idle, keys) as gateway:

        async def told(who: str | None, method: str, path: str, data: str | None, *_: Any) -> tuple[int, str | None]:
            headers = bearer(tokens[who]) if who else {}
            status, body = await gateway.call(method, path, data, headers=headers)
            return status, body.get("code")

        answers = await asyncio.gather(*(told(*asked) for asked in expected))
    assert [each for each in zip(answers, expected, strict=True) if each[0] != each[1][4:]] == []
    assert idle.items("botsessions") == []


async def test_a_key_may_make_owners_or_record_as_it_says(operated: Operated, tmp_path: Path):
    keys = Keys(tmp_path)
    may = {"owner": OWNERS, "recorder": RECORDING}
    keys.add("owner", owner=True)
    keys.add("recorder", recording=True)
    async with with_keys(operated, keys) as gateway:

        async def status(who: str, more: dict[str, Any]) -> int:
            return (await gateway.call("POST", START, sent(**more), headers=bearer(keys.tokens[who])))[0]

        for what, asked in may.items():
            for who in may:
                wanted = 200 if who == what else 403
                assert [await status(who, more) for more in asked] == [wanted] * len(asked)


async def test_a_start_that_meets_one_that_comes_and_goes_is_a_409(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    """Each time there is one of its name, and none any more when it is looked at."""
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    there = Fault(status=409, text='{"message": "it already exists", "reason": "AlreadyExists"}')
    ledger.rule = lambda call: there if call.method == "POST" and call.path.endswith("/botsessions") else None
    status, body = await gateway.call("POST", START, sent(), headers={"Idempotency-Key": '"mine"'})
    assert (status, body["code"]) == (409, "conflict")
    assert "try again" in body["error"]
    ledger.rule = passing
    assert idle.items("botsessions") == []
    await gateway.close()


async def test_a_session_that_was_replaced_is_not_stopped_in_its_place(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, _ = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    first = idle.session()
    listed = lambda: first in get(f"{gateway.url}/v1/agents/bot/sessions")[1]  # noqa: E731
    await asyncio.to_thread(wait_until, "the watch", listed, UP_S)
    proxy.silence_watches()
    idle.kubectl("delete", "botsession", "s")
    assert idle.session() != first
    for root in FAMILIES:
        status, body = await gateway.call("DELETE", f"{root}/sessions/{first}")
        assert (status, body["code"]) == (409, "conflict"), body
    assert not idle.get("botsession", "s")["spec"]["stop"]
    await gateway.close()


async def test_what_the_gateway_may_not_is_a_500_of_the_documented_code(
    between: tuple[Proxy, Ledger], idle: Operated, tmp_path: Path
):
    proxy, ledger = between
    gateway = await gateway_behind(proxy, idle, tmp_path)
    said = '{"message": "bots \\"bot\\" is forbidden: User \\"x\\" cannot get", "reason": "Forbidden"}'
    ledger.rule = lambda call: Fault(status=403, text=said) if "/bots/" in call.path else None
    status, body = await gateway.call("POST", START, sent())
    assert (status, body["code"]) == (500, "500")
    assert "its log says" in body["error"]
    await gateway.close()


async def test_a_start_past_the_capacity_is_a_429_and_leaves_nothing(alone: Gateway, idle: Operated):
    asking = asyncio.create_task(refused(alone))
    (session,) = await asyncio.to_thread(wait_until, "the session", lambda: idle.items("botsessions"), UP_S)
    told = {"status": {"phase": "Failed", "endReason": "CapacityReached", "message": "3 of 3 sessions are live."}}
    name = session["metadata"]["name"]
    idle.kubectl("patch", "botsession", name, "--subresource=status", "--type=merge", "-p", json.dumps(told))
    status, headers, body = await asking
    text = "PCC-AGENT-AT-CAPACITY: 3 of 3 sessions are live."
    assert (status, body) == (429, {"status": 429, "code": "429", "error": text, "message": text})
    assert int(headers["Retry-After"]) > 0
    assert idle.items("botsessions") == []
    assert (
        'starts_total{bot="bot",endpoint="/v1/public/{bot}/start",outcome="at_capacity"} 1.0'
        in get(f"{alone.url}/metrics")[1]
    )


async def refused(gateway: Gateway) -> tuple[int, Any, Any]:
    """Status, headers and body of a start."""
    async with gateway.http.post(START, data=sent()) as answer:
        return answer.status, answer.headers, await answer.json()


async def test_properties_that_daily_refuses_are_the_callers_fault(gateway: Gateway):
    status, body = await gateway.call("POST", START, sent(dailyRoomProperties={"enable_chat": "maybe"}))
    assert (status, body["code"]) == (400, "refused")
    assert "Daily refused create_room (400)" in body["error"]
