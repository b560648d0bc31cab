"""API keys, CORS and limits of the gateway as a process, over HTTP."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pipecat_gateway.keys.ring import hash_of
from pipecat_local.processes import wait_until
from support.gateway import UP_S, Gateway, Keys, bearer
from support.leaks import note
from support.operated import Operated, get

ROOM = json.dumps({"createDailyRoom": True})
OWN = {"room_url": "https://mine.daily.co/room", "token": "mine.room.token"}
HASTE = {"PIPECAT_GATEWAY_BODY_SECONDS": "0.5", "PIPECAT_GATEWAY_HEAD_SECONDS": "0.5"}
PATIENCE = {"PIPECAT_GATEWAY_BODY_SECONDS": "3600", "PIPECAT_GATEWAY_HEAD_SECONDS": "3600"}
SMALL_OBJECTS = json.dumps({"createDailyRoom": True, "body": {"x": [{}] * 21_800}}, separators=(",", ":"))
"""64 KiB that Python holds as 1.6 MB."""


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """A folder without keys yet."""
    return Keys(tmp_path)


@pytest.fixture
async def start(idle: Operated, keys: Keys, tmp_path: Path) -> AsyncIterator[Callable[..., Gateway]]:
    """Starts a gateway with these keys, without an operator."""
    idle.bot()
    made: list[Gateway] = []

    def gateway(**settings: str) -> Gateway:
        made.append(Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_KEYS=str(keys.folder), **settings))
        return made[-1]

    yield gateway
    for one in made:
        await one.close()
        assert [key_id for key_id, token in keys.tokens.items() if token in one.child.log()] == []


async def until_answered(gateway: Gateway, token: str, status: int) -> None:
    """It takes the gateway a look at the folder."""

    def answered() -> int:
        request = urllib.request.Request(f"{gateway.url}/sessions/x", headers=bearer(token))
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    await asyncio.to_thread(wait_until, f"a {status}", lambda: answered() == status, UP_S)


def sent(gateway: Gateway, text: bytes) -> bytes:
    """All that is answered until the gateway closes the connection."""
    host, port = gateway.url.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=UP_S) as connection:
        connection.sendall(text)
        while part := connection.recv(65536):
            answer += part
    return answer


def resident_mb(gateway: Gateway) -> float:
    """What it holds."""
    lines = Path(f"/proc/{gateway.child.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


async def until_read(gateway: Gateway) -> None:
    """All that was sent to it, by whomever."""
    port = f":{int(gateway.url.rpartition(':')[2]):04X}"

    def read() -> bool:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return all(int(line[4].rpartition(":")[2], 16) == 0 for line in lines if line[1].endswith(port))

    await asyncio.to_thread(wait_until, "the gateway to read", read, UP_S)


async def test_a_key_is_rotated_without_a_restart(start, keys: Keys):
    old = keys.add("ops-1", "private", tenant="acme")
    gateway = start()
    await until_answered(gateway, old, 404)
    new = keys.add("ops-2", "private", tenant="acme")
    await until_answered(gateway, new, 404)
    await until_answered(gateway, old, 404)
    keys.remove("ops-1")
    await until_answered(gateway, old, 401)
    await until_answered(gateway, new, 404)


async def test_a_key_that_is_wrong_is_left_out_and_told(start, keys: Keys):
    good = keys.add("good", "private")
    (keys.folder / "bad").write_text(json.dumps({"hash": hash_of("x"), "kind": "public", "rat": 5}))
    gateway = start()
    await until_answered(gateway, good, 404)
    assert "entry bad: rat: is no field of a key" in gateway.child.log()
    assert hash_of("x") not in gateway.child.log()


async def test_without_a_key_nothing_is_made_and_nothing_is_told(start, keys: Keys, idle: Operated):
    token = keys.add("web")
    gateway = start()
    for headers in ({}, bearer("pk_web_x"), bearer("pk_nobody_x"), bearer(f"{token}x"), {"Authorization": token}):
        told = [await gateway.call(*asked, headers=headers) for asked in (("POST", "/start"), ("GET", "/nowhere"))]
        assert (
            told
            == [(401, {"error": "An API key is needed: Authorization: Bearer YOUR-KEY.", "code": "unauthorized"})] * 2
        )
    assert idle.items("botsessions") == []
    for path in ("/healthz", "/metrics"):
        assert get(f"{gateway.url}{path}")[0] == 200


async def test_any_bytes_are_no_key(start, keys: Keys):
    keys.add("web")
    gateway = start()
    for value in (b"\xff\xfe", b"Bearer \xff", b"Bearer pk_web_\xf0\x9f\x98\x80", b"Bearer " + b"x" * 8000):
        answer = sent(
            gateway, b"GET /sessions/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: %b\r\n\r\n" % value
        )
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_public_key_starts_and_does_not_manage(start, keys: Keys, idle: Operated):
    token, private = keys.add("web"), keys.add("ops", "private")
    uid = idle.session()
    gateway = start()
    for method in ("GET", "DELETE"):
        status, body = await gateway.call(method, f"/sessions/{uid}", headers=bearer(token))
        assert (status, body["code"]) == (403, "private_key_required")
    assert (await gateway.call("GET", f"/sessions/{uid}", headers=bearer(private)))[0] == 200
    starting = asyncio.create_task(gateway.call("POST", "/v1/public/bot/start", ROOM, headers=bearer(token)))
    await asyncio.to_thread(wait_until, "the session", lambda: len(idle.items("botsessions")) == 2, UP_S)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


async def test_a_bot_that_a_key_is_not_bound_to_is_as_one_that_is_not_there(start, keys: Keys, idle: Operated):
    bound, free = keys.add("bound", "private", bots=("other",)), keys.add("free", "private")
    uid = idle.session()
    gateway = start()
    _, nobody = await gateway.call("POST", "/v1/public/nobody/start", ROOM, headers=bearer(free))
    for path in ("/v1/public/bot/start", "/start", "/start_bot"):
        status, body = await gateway.call("POST", path, ROOM, headers=bearer(bound))
        # Pipecat Cloud's own path has the code that its API documents.
        assert (status, body["code"]) == (404, "404" if "public" in path else "unknown_bot")
        assert body["error"] == nobody["error"].replace("nobody", "bot")
    for method in ("GET", "DELETE"):
        status, body = await gateway.call(method, f"/sessions/{uid}", headers=bearer(bound))
        assert (status, body) == (404, {"error": f"There is no session {uid!r}.", "code": "not_found"})
    assert [session["spec"].get("stop", False) for session in idle.items("botsessions")] == [False]


async def test_starts_come_no_faster_than_the_keys_rate(start, keys: Keys):
    slow, other = keys.add("slow", rate=0.001), keys.add("other")
    gateway = start()
    statuses = [(await gateway.call("POST", "/v1/public/nobody/start", headers=bearer(slow)))[0] for _ in range(2)]
    assert statuses == [400, 429]
    async with gateway.http.post("/v1/public/nobody/start", headers=bearer(slow)) as answer:
        assert int(answer.headers["Retry-After"]) > 900
    assert (await gateway.call("POST", "/v1/public/nobody/start", headers=bearer(other)))[0] == 400


async def test_the_log_names_the_key(start, keys: Keys):
    token = keys.add("web")
    gateway = start()
    await gateway.call("POST", "/v1/public/nobody/start", headers=bearer(token))
    await gateway.call("POST", "/v1/public/nobody/start?token=secret")
    assert "web POST /v1/public/nobody/start 400 room_required" in gateway.child.log()
    assert "- POST /v1/public/nobody/start 401 unauthorized" in gateway.child.log()
    assert "web" not in get(f"{gateway.url}/metrics")[1]


async def test_the_log_names_the_session_of_a_start(start, keys: Keys, idle: Operated):
    token = keys.add("web")
    idle.start()
    gateway = start()
    status, told = await gateway.call("POST", "/v1/public/bot/start", ROOM, headers=bearer(token))
    assert status == 200, told
    (line,) = [line for line in gateway.child.log().splitlines() if "web POST /v1/public/bot/start 200 ok " in line]
    assert line.endswith(f" ms, session {told['sessionId']}")


@pytest.mark.parametrize(("path", "request_"), [("/start", {"body": OWN}), ("/start_bot", OWN)])
async def test_a_room_of_ones_own_leaves_no_token_in_the_session(start, keys: Keys, idle: Operated, path, request_):
    token = keys.add("web")
    gateway = start()
    made = {**request_, "createDailyRoom": True}
    status, told = await gateway.call("POST", path, json.dumps(made), headers=bearer(token))
    assert (status, told["code"]) == (400, "token_without_room")
    assert idle.items("botsessions") == []
    starting = asyncio.create_task(gateway.call("POST", path, json.dumps(request_), headers=bearer(token)))
    await asyncio.to_thread(wait_until, "the Secret", lambda: idle.items("secrets"), UP_S)
    (session,) = idle.items("botsessions")
    assert (session["spec"]["room"]["url"], session["spec"]["body"]) == (OWN["room_url"], {"room_url": OWN["room_url"]})
    assert OWN["token"] not in json.dumps(session)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)


@pytest.mark.parametrize(("origins", "allowed"), [("", None), ("https://app.test", "https://app.test"), ("*", "*")])
async def test_cors_is_closed_unless_set_and_a_preflight_needs_no_key(start, keys: Keys, origins: str, allowed: str):
    keys.add("web")
    gateway = start(PIPECAT_GATEWAY_CORS_ORIGINS=origins)
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    async with gateway.http.options("/start", headers=headers) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert answer.status == (204 if allowed else 403)
    async with gateway.http.post("/start", headers={"Origin": "https://app.test"}) as answer:
        assert (answer.status, answer.headers.get("Access-Control-Allow-Origin")) == (401, allowed)


async def test_a_body_that_does_not_arrive_is_given_up(start, keys: Keys, idle: Operated):
    token = keys.add("web")
    gateway = start(**HASTE)
    head = f"POST /start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 10\r\n\r\n{{"
    answer = await asyncio.to_thread(sent, gateway, head.encode())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code": "request_timeout"' in answer
    assert idle.items("botsessions") == []


@pytest.mark.parametrize("head", [b"", b"POST /start HTTP/1.1\r\nHost: x\r\nX: "])
async def test_a_head_that_does_not_arrive_is_given_up(start, keys: Keys, head: bytes):
    keys.add("web")
    gateway = start(**HASTE)
    assert await asyncio.to_thread(sent, gateway, head) == b""


async def test_a_body_that_is_not_as_its_headers_say(start, keys: Keys):
    token = keys.add("web")
    gateway = start()
    head = f"POST /start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 16\r\n"
    head += "Content-Encoding: gzip\r\n\r\n"
    answer = await asyncio.to_thread(sent, gateway, head.encode() + b"secret-of-a-body")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code": "bad_encoding"' in answer
    assert "secret-of-a-body" not in gateway.child.log()
    assert "Traceback" not in gateway.child.log()


async def test_a_caller_who_goes_away_before_the_body_is_there(start, keys: Keys):
    token = keys.add("web")
    gateway = start()
    head = f"POST /start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n"
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
    gone = lambda: "web POST /start 499 gone" in gateway.child.log()  # noqa: E731
    await asyncio.to_thread(wait_until, "the gateway to notice", gone, UP_S)


async def test_headers_have_a_bound_and_what_is_refused_is_not_told_to_the_log(start, keys: Keys):
    token = keys.add("web")
    gateway = start()
    line = f"Authorization: Bearer {token}"
    for lines in (f"{line}{'x' * 9000}", f"{line}\r\n" + "X: y\r\n" * 200 + "Z: z", f"{line} \x00"):
        answer = await asyncio.to_thread(sent, gateway, f"POST /start HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 ")
        assert json.loads(body) == {"error": "The request is no HTTP that can be read.", "code": "bad_http"}
    assert gateway.child.log().count("A request was refused: it is no HTTP that can be read.") == 3
    assert "Traceback" not in gateway.child.log()


async def test_past_its_bound_it_says_so_and_still_tells_its_health(start, keys: Keys):
    token = keys.add("web", "private")
    gateway = start(PIPECAT_GATEWAY_OPEN_REQUESTS="1")
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            f"POST /start HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 9\r\n\r\n".encode()
        )
        await until_answered(gateway, token, 503)
        async with gateway.http.get("/sessions/x", headers=bearer(token)) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert get(f"{gateway.url}/readyz")[0] == 200
    await until_answered(gateway, token, 404)


async def test_slow_clients_take_up_little_and_keep_nobody_from_a_start(start, keys: Keys, idle: Operated):
    slow, token = keys.add("slow"), keys.add("web")
    idle.start()
    gateway = start(**PATIENCE)
    assert (await gateway.call("POST", "/start_bot", headers=bearer(token)))[0] == 200
    before = resident_mb(gateway)
    host, port = gateway.url.removeprefix("http://").split(":")
    head = b"POST /start HTTP/1.1\r\nHost: x\r\n"
    field = "X: \N{GRINNING FACE}".encode() + b"x" * 192 + b"\r\n"
    body = b"Authorization: Bearer %b\r\nContent-Length: 262144\r\n\r\n%b" % (slow.encode(), b" " * 131_072)
    drips = [head + field * 60] * 100 + [head + body] * 50
    too_much = [head + (b"X: " + b"x" * 8000 + b"\r\n") * 60] * 50
    callers = [await asyncio.open_connection(host, int(port)) for _ in (*drips, *too_much)]
    for (_, writer), text in zip(callers, (*drips, *too_much), strict=True):
        writer.write(text)
    starting = asyncio.create_task(gateway.call("POST", "/start_bot", headers=bearer(token)))
    while not starting.done():
        for _, writer in callers[: len(drips)]:
            writer.write(b" ")
        await until_read(gateway)
    status, told = await starting
    assert status == 200, told
    assert resident_mb(gateway) - before < 0.25 * len(callers)
    assert [reader.at_eof() for reader, _ in callers[: len(drips)]] == [False] * len(drips)
    for _, writer in callers:
        writer.transport.abort()


async def test_starts_that_wait_take_up_little(start, keys: Keys):
    token, private = keys.add("web"), keys.add("ops", "private")
    # As in the chart.
    gateway = start(MALLOC_MMAP_THRESHOLD_="65536")

    def known() -> int:
        request = urllib.request.Request(f"{gateway.url}/v1/agents/bot/sessions", headers=bearer(private))
        with urllib.request.urlopen(request, timeout=UP_S) as answer:
            return int(json.load(answer)["total_count"])

    async def waiting(count: int) -> list[asyncio.Task[tuple[int, Any]]]:
        there = known()
        call = lambda: gateway.call("POST", "/start", SMALL_OBJECTS, headers=bearer(token))  # noqa: E731
        starts = [asyncio.create_task(call()) for _ in range(count)]
        await asyncio.to_thread(wait_until, "the sessions", lambda: known() == there + count, 2 * UP_S)
        return starts

    starts = await waiting(5)
    before, more = resident_mb(gateway), 60
    starts += await waiting(more)
    assert resident_mb(gateway) - before < 0.5 * more
    for each in starts:
        each.cancel()
    await asyncio.gather(*starts, return_exceptions=True)


def test_a_folder_that_is_not_there_is_refused(idle: Operated, tmp_path: Path):
    env = {"PATH": os.environ["PATH"], "PIPECAT_GATEWAY_KEYS": str(tmp_path / "nowhere")}
    ran = subprocess.run(
        [sys.executable, "-m", "pipecat_gateway"], env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 78
    assert "PIPECAT_GATEWAY_KEYS" in ran.stderr


def test_several_keys_share_a_secret(kubectl: Callable[..., str], namespace: str, tmp_path: Path):
    """As the guide has it: each is made, replaced and removed, and the others stay."""

    def made(key_id: str) -> str:
        command = [sys.executable, "-m", "pipecat_gateway.newkey", "--id", key_id, "--public"]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        note(tmp_path, [ran.stderr.strip()])
        kubectl(
            "--namespace", namespace, "apply", "--server-side", "--field-manager", f"key-{key_id}", "-f", "-",
            stdin=ran.stdout,
        )  # fmt: skip
        return str(json.loads(ran.stdout)["data"][key_id])

    def stored() -> dict[str, str]:
        told = kubectl("--namespace", namespace, "get", "secret", "pipecat-api-keys", "-o", "jsonpath={.data}")
        return dict(json.loads(told))

    web, ops = made("web"), made("ops")
    assert stored() == {"web": web, "ops": ops}
    again = made("web")
    assert again != web
    assert stored() == {"web": again, "ops": ops}
    patch = '[{"op": "remove", "path": "/data/web"}]'
    kubectl("--namespace", namespace, "patch", "secret", "pipecat-api-keys", "--type", "json", "--patch", patch)
    assert stored() == {"ops": ops}
