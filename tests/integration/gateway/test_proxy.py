"""A bot's own HTTP routes, through the gateway: what goes up, what comes down, and who ends it."""

import asyncio
import gzip
import io
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from websockets.asyncio.client import connect

from pipecat_local.processes import wait_until
from support.gateway import NOBODY, UP_S, Gateway, Keys, bearer
from support.operated import REAL, Operated, get

from .test_access import sent

ROUTES = Path(__file__).parents[1] / "bot" / "bots" / "routes.py"
PLAIN = ROUTES.with_name("plain.py")
LARGE = 8 * 1024 * 1024
PACKED = gzip.compress(b"packed by the bot")


class Bot:
    """Routes at an address of their own, where a session says that its pod is."""

    def __init__(self) -> None:
        self.address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        self.seen = asyncio.Event()
        self.go_on = asyncio.Event()
        self.gone = asyncio.Event()
        self.closed: asyncio.Future[tuple[int | None, Any]] = asyncio.get_running_loop().create_future()
        app = web.Application(client_max_size=2 * LARGE)
        for path, serve in (
            ("/echo{rest:.*}", self._echo),
            ("/count", self._count),
            ("/events", self._events),
            ("/never", self._never),
            ("/cut", self._cut),
            ("/drop", self._drop),
            ("/early", self._early),
            ("/anothers", self._anothers),
            ("/answer", self._answer),
            ("/lines", self._lines),
        ):
            app.router.add_route("*", path, serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, auto_decompress=False, access_log=None)

    async def __aenter__(self) -> "Bot":
        await self._runner.setup()
        await web.TCPSite(self._runner, self.address, 8080).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _echo(self, request: web.Request) -> web.Response:
        told = [[name.lower(), value] for name, value in request.headers.items()]
        body = await request.text()
        return web.json_response({"method": request.method, "path": request.raw_path, "headers": told, "body": body})

    async def _count(self, request: web.Request) -> web.Response:
        length = 0
        async for part in request.content.iter_any():
            length += len(part)
            self.seen.set()
        return web.json_response({"length": length, "told": request.content_length})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: one\n\n")
        await self.go_on.wait()
        await answer.write(b"data: two\n\n")
        return answer

    async def _never(self, request: web.Request) -> web.Response:
        self.seen.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            self.gone.set()

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"the beginning")
        await self.go_on.wait()
        assert request.transport
        request.transport.abort()
        return answer

    async def _drop(self, request: web.Request) -> web.Response:
        assert request.transport
        request.transport.abort()
        return web.Response()

    async def _early(self, _: web.Request) -> web.Response:
        return web.Response(status=413, text="too much")

    async def _anothers(self, _: web.Request) -> web.Response:
        """As the host of another session's bot."""
        return web.Response(status=421, headers={"X-Pipecat-Refused": "other-session"})

    async def _answer(self, _: web.Request) -> web.Response:
        answer = web.Response(status=418, reason="Teapot", body=PACKED)
        answer.headers["Content-Encoding"] = "gzip"
        answer.headers["Access-Control-Allow-Origin"] = "*"
        answer.headers["Connection"] = "X-Of-The-Connection"
        answer.headers["X-Of-The-Connection"] = "1"
        answer.headers.extend([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")])
        return answer

    async def _lines(self, request: web.Request) -> web.WebSocketResponse:
        if "refuse" in request.query:
            raise web.HTTPForbidden
        socket = web.WebSocketResponse(protocols=["second"], autoping="manual" not in request.query)
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
                elif message.type is WSMsgType.PING:
                    await socket.send_str(f"ping {message.data.decode()}")
                elif message.data == "close":
                    await socket.close(code=4001, message=b"enough")
                elif message.data == "break":
                    assert request.transport
                    request.transport.abort()
                else:
                    await socket.send_str(f"said: {message.data}")
        finally:
            self.closed.set_result((socket.close_code, socket.ws_protocol))
        return socket


class Asked:
    """A session whose bot is one of ours, and the way to it."""

    def __init__(self, gateway: Gateway, idle: Operated, bot: Bot) -> None:
        self.gateway = gateway
        self.idle = idle
        self.bot = bot
        self.http = gateway.http
        self.uid = idle.session()
        self.path = f"/v1/public/bot/sessions/{self.uid}"
        self.status(phase="Running", podIP=bot.address)

    def status(self, **status: Any) -> None:
        """Set it as an operator would; the gateway knows when this returns."""
        patch = json.dumps({"status": status})
        self.idle.kubectl("patch", "botsession", "s", "--subresource=status", "--type=merge", "--patch", patch)
        told = f"{self.gateway.url}/sessions/{self.uid}"
        wait_until("the gateway to know", lambda: json.loads(get(told)[1]).get("phase") == status["phase"], UP_S)

    async def end(self) -> None:
        """The session's."""
        await asyncio.to_thread(self.status, phase="Succeeded", endReason="UserLeft")


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """Served by this process."""
    async with Bot() as made:
        yield made


@pytest.fixture
async def start(idle: Operated, bot: Bot, tmp_path: Path) -> AsyncIterator[Callable[..., Asked]]:
    """Starts a gateway with these settings, without keys and without an operator."""
    idle.bot()
    made: list[Gateway] = []

    def asked(**settings: str) -> Asked:
        made.append(Gateway(idle, tmp_path / "gateway.log", **settings))
        return Asked(made[-1], idle, bot)

    yield asked
    for gateway in made:
        await gateway.close()


@pytest.fixture
async def asked(start: Callable[..., Asked]) -> Asked:
    """With its defaults."""
    return start()


async def until_logged(gateway: Gateway, text: str) -> None:
    """By the gateway."""
    await asyncio.to_thread(wait_until, f"{text!r} in the log", lambda: text in gateway.child.log(), UP_S)


async def test_a_bot_answers_from_its_start_to_its_end(gateway: Gateway, operated: Operated):
    """The real host, in the pod that was made for a start."""
    operated.bot("cloud", image=REAL, env=[{"name": "PIPECAT_BOT_FILE", "value": str(ROUTES)}])
    start = "/v1/public/cloud/start?wait=joined"
    status, started = await gateway.call("POST", start, '{"createDailyRoom": true, "body": {"topic": "gardens"}}')
    assert status == 200, started
    path = f"/v1/public/cloud/sessions/{started['sessionId']}"
    async with gateway.http.get(f"{path}/status") as answer:
        told = await answer.json()
    assert (answer.status, told["session_id"], told["body"]) == (200, started["sessionId"], {"topic": "gardens"})
    async with gateway.http.post(f"{path}/speak", json={"text": "a line from outside"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"said": "a line from outside"})
    async with gateway.http.get(f"{path}/nothing-there") as answer:
        assert (answer.status, await answer.json()) == (404, {"detail": "Not Found"})
    async with gateway.http.ws_connect(f"{path}/lines") as socket:
        await socket.send_str("one")
        assert await socket.receive_str() == "said: one"
        await gateway.call("DELETE", f"/sessions/{started['sessionId']}")
        assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == WSCloseCode.SERVICE_RESTART
    (name,) = [session["metadata"]["name"] for session in operated.items("botsessions")]
    await asyncio.to_thread(operated.until_ended, name)
    await until_phase(gateway, started["sessionId"], "Succeeded")
    assert (await gateway.call("GET", f"{path}/status"))[0] == 410


async def until_phase(gateway: Gateway, uid: str, phase: str) -> None:
    """As the gateway knows it."""
    there = lambda: json.loads(get(f"{gateway.url}/sessions/{uid}")[1]).get("phase") == phase  # noqa: E731
    await asyncio.to_thread(wait_until, phase, there, UP_S)


async def test_any_method_is_passed_on(asked: Asked):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        body = "a body" if method != "GET" else ""
        async with asked.http.request(method, f"{asked.path}/echo/it", data=body or None) as answer:
            told = await answer.json()
        assert (answer.status, told["method"], told["path"], told["body"]) == (200, method, "/echo/it", body)
    metrics = get(f"{asked.gateway.url}/metrics")[1]
    assert 'method="*",route="/v1/public/{bot}/sessions/{id}/{path}",status="200"} 8.0' in metrics
    assert "PROPFIND" not in metrics


async def test_head_is_answered_without_a_body(asked: Asked):
    async with asked.http.head(f"{asked.path}/echo") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0


def got(asked: Asked, target: bytes, method: bytes = b"GET") -> tuple[int, bytes]:
    """Status and body of the answer, the target sent as it stands."""
    head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (method, target)
    first, _, body = sent(asked.gateway, head).partition(b"\r\n\r\n")
    return int(first.split(b" ")[1]), body


async def test_path_and_query_are_passed_on_as_sent(asked: Asked):
    for rest in (
        "/echo",
        "/echo/",
        "/echo//x",
        "/echo/a%2Fb%20c%3F",
        "/echo/../x",
        "/echo?a=%20+&a=%3D&b",
        "/echo@x:1",
    ):
        status, body = await asyncio.to_thread(got, asked, f"{asked.path}{rest}".encode())
        assert (status, json.loads(body)["path"]) == (200, rest)


async def test_no_path_leads_elsewhere(asked: Asked):
    path = asked.path.encode()
    for rest in (b"//127.0.0.2:1/echo", b"/@127.0.0.2:1/echo", b"/http://127.0.0.2:1/echo", b"/:9/echo", b"/"):
        assert (await asyncio.to_thread(got, asked, path + rest))[0] == 404, rest
    # What it is to connect to is no name of this machine.
    assert (await asyncio.to_thread(got, asked, path + b"/echo", b"CONNECT"))[0] == 403
    assert (await asyncio.to_thread(got, asked, path + b"/echo/\xff"))[0] == 400
    assert "defect" not in asked.gateway.child.log()


async def test_headers_of_a_request(idle: Operated, bot: Bot, tmp_path: Path):
    keys = Keys(tmp_path)
    token = keys.add("web", tenant="acme")
    idle.bot()
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_KEYS=str(keys.folder))
    idle.kubectl("create", "-f", "-", stdin=json.dumps(session_of("acme")))
    uid = idle.get("botsession", "s")["metadata"]["uid"]
    patch = json.dumps({"status": {"phase": "Running", "podIP": bot.address}})
    idle.kubectl("patch", "botsession", "s", "--subresource=status", "--type=merge", "--patch", patch)
    headers = {
        **bearer(token),
        "Host": "bots.example.test",
        "Cookie": "a=1; b=2",
        "Connection": "close, X-Hop",
        "X-Hop": "1",
        "TE": "trailers",
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Proto": "https",
        "X-Mine": "caf\xe9",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
    line = f"GET /v1/public/bot/sessions/{uid}/echo HTTP/1.1\r\n".encode()

    def answered() -> bytes:
        answer = sent(gateway, line + head + b"\r\n")
        return answer if answer.startswith(b"HTTP/1.1 200") else b""

    answer = await asyncio.to_thread(wait_until, "an answer", answered, UP_S)
    told = json.loads(answer.partition(b"\r\n\r\n")[2])["headers"]
    assert sorted(told) == [
        ["connection", "close"],
        ["cookie", "a=1; b=2"],
        ["host", f"{bot.address}:8080"],
        ["x-forwarded-for", "192.0.2.7, 127.0.0.1"],
        ["x-forwarded-host", "bots.example.test"],
        ["x-forwarded-proto", "https"],
        ["x-mine", "caf\xe9"],
        ["x-pipecat-session-id", uid],
    ]
    assert token not in str(told)
    await gateway.close()


def session_of(tenant: str) -> dict[str, Any]:
    """As a gateway makes them."""
    return {
        "apiVersion": "pipecat.dev/v1alpha1",
        "kind": "BotSession",
        "metadata": {"name": "s", "labels": {"pipecat.dev/tenant": tenant}},
        "spec": {"botRef": {"name": "bot"}},
    }


async def test_headers_of_an_answer(start, bot: Bot):
    asked = start(PIPECAT_GATEWAY_CORS_ORIGINS="https://app.test")
    for origin, allowed in (("https://app.test", ["https://app.test"]), ("https://evil.test", [])):
        async with (
            aiohttp.ClientSession(auto_decompress=False) as http,
            http.get(f"{asked.gateway.url}{asked.path}/answer", headers={"Origin": origin}) as answer,
        ):
            assert (answer.status, answer.reason) == (418, "Teapot")
            assert await answer.read() == PACKED
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2; Path=/"]
        assert "X-Of-The-Connection" not in answer.headers
        assert answer.headers.getall("Access-Control-Allow-Origin", []) == allowed


async def test_a_body_goes_up_as_it_comes(asked: Asked):
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asked.bot.seen.wait()
        yield b"two"

    async with asked.http.post(f"{asked.path}/count", data=body()) as answer:
        assert await answer.json() == {"length": 6, "told": None}


async def test_a_large_body(asked: Asked):
    async with asked.http.post(f"{asked.path}/count", data=io.BytesIO(b"x" * LARGE)) as answer:
        assert await answer.json() == {"length": LARGE, "told": LARGE}
    async with asked.http.put(f"{asked.path}/echo", data=io.BytesIO(b"x" * LARGE)) as answer:
        assert len((await answer.json())["body"]) == LARGE


async def test_a_body_that_is_packed_is_unpacked(asked: Asked):
    headers = {"Content-Encoding": "gzip"}
    async with asked.http.post(f"{asked.path}/echo", data=gzip.compress(b"plain"), headers=headers) as answer:
        told = await answer.json()
    assert told["body"] == "plain"
    assert "content-encoding" not in dict(told["headers"])
    async with asked.http.post(f"{asked.path}/count", data=b"no gzip at all", headers=headers) as answer:
        assert (answer.status, (await answer.json())["code"]) == (400, "bad_encoding")


async def test_a_bot_that_answers_before_it_has_all(asked: Asked):
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.get_running_loop().create_future()

    async with asked.http.post(f"{asked.path}/early", data=body()) as answer:
        assert (answer.status, await answer.text()) == (413, "too much")


async def test_an_answer_comes_down_as_it_is_made(asked: Asked):
    async with asked.http.get(f"{asked.path}/events") as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.content.readany() == b"data: one\n\n"
        asked.bot.go_on.set()
        assert await answer.content.read() == b"data: two\n\n"


async def test_a_caller_who_goes_away_ends_the_request_at_the_bot(asked: Asked):
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.get_running_loop().create_future()

    for data in (None, body()):
        asked.bot.seen.clear()
        asked.bot.gone.clear()
        asking = asyncio.create_task(asked.gateway.call("POST", f"{asked.path}/never", data))
        await asyncio.wait_for(asked.bot.seen.wait(), UP_S)
        asking.cancel()
        await asyncio.wait_for(asked.bot.gone.wait(), UP_S)
        await asyncio.gather(asking, return_exceptions=True)
    await until_logged(asked.gateway, "/never 499 gone")


async def test_a_bot_that_breaks_off_breaks_off_the_answer(asked: Asked):
    async with asked.http.get(f"{asked.path}/cut") as answer:
        assert await answer.content.readany() == b"the beginning"
        asked.bot.go_on.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    assert "Traceback" not in asked.gateway.child.log()


@pytest.mark.parametrize("stalled", [False, True], ids=["asked", "while it is sent a body"])
async def test_a_bot_that_goes_away_without_an_answer(asked: Asked, stalled: bool):
    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.get_running_loop().create_future()

    status, told = await asked.gateway.call("POST", f"{asked.path}/drop", body() if stalled else None)
    assert (status, told["code"]) == (502, "bot_gone")
    # The next request shows that the gateway is none the worse.
    assert (await asked.gateway.call("GET", f"{asked.path}/echo"))[0] == 200
    assert "Traceback" not in asked.gateway.child.log()


async def test_a_bot_whose_address_is_anothers_by_now(asked: Asked):
    status, told = await asked.gateway.call("POST", f"{asked.path}/anothers", "{}")
    assert (status, told["code"]) == (502, "bot_gone")
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await asked.http.ws_connect(f"{asked.path}/anothers")
    assert refused.value.status == 502
    assert "Traceback" not in asked.gateway.child.log()


async def test_a_bot_that_has_no_routes_of_its_own(gateway: Gateway, operated: Operated):
    """The real host, which answers probes on that port."""
    operated.bot("plain", image=REAL, env=[{"name": "PIPECAT_BOT_FILE", "value": str(PLAIN)}])
    _, started = await gateway.call("POST", "/v1/public/plain/start?wait=joined", '{"createDailyRoom": true}')
    status, told = await gateway.call("GET", f"/v1/public/plain/sessions/{started['sessionId']}/status")
    assert (status, told["code"]) == (502, "no_routes")


async def test_a_bot_without_routes(asked: Asked):
    nobody_there = f"127.254.254.{random.randint(1, 254)}"
    for address in (nobody_there, "example.test", "169.254.169.254", "0.0.0.0", "127.0.0.1:9", None):
        await asyncio.to_thread(asked.status, phase="Ending", podIP=address or nobody_there)
        await asyncio.to_thread(asked.status, phase="Running", podIP=address)
        status, told = await asked.gateway.call("GET", f"{asked.path}/echo")
        assert (status, told["code"]) == (502, "no_routes"), address
    assert "docs/bots.md" in told["error"]


@pytest.mark.parametrize("phase", ["Pending", "Starting"])
async def test_one_that_has_not_started_is_waited_for(asked: Asked, phase: str):
    await asyncio.to_thread(asked.status, phase=phase, podIP=None)
    asking = asyncio.create_task(asked.gateway.call("GET", f"{asked.path}/echo"))
    await asked.gateway.call("GET", f"/sessions/{asked.uid}")
    assert not asking.done()
    await asyncio.to_thread(asked.status, phase="Running", podIP=asked.bot.address)
    assert (await asking)[0] == 200


async def test_one_that_does_not_start_is_waited_for_no_longer_than_a_start(start):
    asked = start(PIPECAT_GATEWAY_START_TIMEOUT_SECONDS="0.1")
    await asyncio.to_thread(asked.status, phase="Starting", podIP=None)
    status, told = await asked.gateway.call("GET", f"{asked.path}/echo")
    assert (status, told["code"]) == (504, "timeout")


async def test_one_that_ends_before_it_has_started(asked: Asked):
    await asyncio.to_thread(asked.status, phase="Starting", podIP=None)
    asking = asyncio.create_task(asked.gateway.call("GET", f"{asked.path}/echo"))
    await asked.end()
    status, told = await asking
    assert (status, told["code"]) == (410, "session_over")


async def test_one_that_is_over(asked: Asked):
    await asked.end()
    status, told = await asked.gateway.call("GET", f"{asked.path}/echo")
    assert (status, told) == (410, {"error": "The session is over: UserLeft.", "code": "session_over"})


async def test_what_is_not_the_callers_is_not_there(idle: Operated, bot: Bot, tmp_path: Path):
    keys = Keys(tmp_path)
    own, other = keys.add("acme", tenant="acme"), keys.add("rival", "private", tenant="rival")
    bound = keys.add("bound", tenant="acme", bots=("else",))
    idle.bot()
    idle.kubectl("create", "-f", "-", stdin=json.dumps(session_of("acme")))
    uid = idle.get("botsession", "s")["metadata"]["uid"]
    ended = json.dumps({"status": {"phase": "Succeeded", "endReason": "UserLeft"}})
    idle.kubectl("patch", "botsession", "s", "--subresource=status", "--type=merge", "--patch", ended)
    gateway = Gateway(idle, tmp_path / "gateway.log", PIPECAT_GATEWAY_KEYS=str(keys.folder))
    expected = {
        (own, f"/v1/public/bot/sessions/{uid}/echo"): (410, "session_over"),
        (own, f"/v1/public/other/sessions/{uid}/echo"): (404, "404"),
        (own, f"/v1/public/bot/sessions/{NOBODY}/echo"): (404, "404"),
        (own, "/v1/public/bot/sessions/x/echo"): (404, "404"),
        (own, f"/v1/public/bot/sessions/{uid}"): (404, "not_found"),
        (other, f"/v1/public/bot/sessions/{uid}/echo"): (404, "404"),
        (bound, f"/v1/public/bot/sessions/{uid}/echo"): (404, "404"),
        (bound, f"/v1/public/else/sessions/{uid}/echo"): (404, "404"),
        ("none", f"/v1/public/bot/sessions/{uid}/echo"): (401, "401"),
    }
    for (token, path), told in expected.items():
        status, body = await gateway.call("GET", path, headers=bearer(token))
        assert (status, body["code"]) == told, path
    await gateway.close()


async def test_a_websocket_goes_both_ways(asked: Asked):
    async with asked.http.ws_connect(f"{asked.path}/lines", protocols=["first", "second"]) as socket:
        assert socket.protocol == "second"
        await socket.send_str("one")
        assert await socket.receive_str() == "said: one"
        await socket.send_bytes(bytes(range(256)) * 512)
        assert await socket.receive_bytes() == bytes(range(256)) * 512
        await socket.close(code=4002, message=b"mine")
    assert await asked.bot.closed == (4002, "second")


async def test_pings_are_the_bots_to_answer(asked: Asked):
    async with asked.http.ws_connect(f"{asked.path}/lines?manual", autoping=False) as socket:
        await socket.ping(b"over there")
        assert await socket.receive_str() == "ping over there"
    async with asked.http.ws_connect(f"{asked.path}/lines", autoping=False) as socket:
        asked.bot.closed = asyncio.get_running_loop().create_future()
        await socket.ping(b"over there")
        assert (await socket.receive()).data == b"over there"


@pytest.mark.parametrize(
    ("word", "code", "reason"),
    [("close", 4001, "enough"), ("break", WSCloseCode.BAD_GATEWAY, "The bot went away.")],
)
async def test_a_bot_that_ends_a_websocket(asked: Asked, word: str, code: int, reason: str):
    async with asked.http.ws_connect(f"{asked.path}/lines") as socket:
        await socket.send_str(word)
        assert (await socket.receive()).extra == reason
        assert socket.close_code == code


async def test_a_caller_who_goes_away_ends_the_websocket_at_the_bot(asked: Asked):
    socket = await connect(f"{asked.gateway.url.replace('http', 'ws')}{asked.path}/lines", proxy=None)
    await socket.send("one")
    assert await socket.recv() == "said: one"
    socket.transport.abort()
    code, _ = await asyncio.wait_for(asked.bot.closed, UP_S)
    assert code == WSCloseCode.GOING_AWAY


async def test_a_websocket_that_the_bot_refuses(asked: Asked):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await asked.http.ws_connect(f"{asked.path}/lines?refuse")
    assert refused.value.status == 403


async def test_subprotocols_that_the_bot_does_not_know_are_not_told_to_the_log(asked: Asked):
    async with asked.http.ws_connect(f"{asked.path}/lines", protocols=["a-token-of-a-browser"]) as socket:
        assert socket.protocol is None
    await until_logged(asked.gateway, "/lines 101")
    assert "a-token-of-a-browser" not in asked.gateway.child.log()


async def test_the_end_of_the_session_ends_all(asked: Asked):
    socket = await asked.http.ws_connect(f"{asked.path}/lines")
    asking = asyncio.create_task(asked.gateway.call("GET", f"{asked.path}/never"))
    await asyncio.wait_for(asked.bot.seen.wait(), UP_S)
    async with asked.http.get(f"{asked.path}/events") as answer:
        await answer.content.readany()
        await asked.end()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    status, told = await asking
    assert (status, told["code"]) == (410, "session_over")
    assert (await socket.receive()).extra == "The session is over: UserLeft."
    assert socket.close_code == WSCloseCode.GOING_AWAY
    assert (await asyncio.wait_for(asked.bot.closed, UP_S))[0] == WSCloseCode.GOING_AWAY
    await asyncio.wait_for(asked.bot.gone.wait(), UP_S)


async def test_what_does_not_move_is_given_up(start, bot: Bot):
    asked = start(PIPECAT_GATEWAY_PROXY_IDLE_SECONDS="0.5")
    socket = await asked.http.ws_connect(f"{asked.path}/lines")
    status, told = await asked.gateway.call("GET", f"{asked.path}/never")
    assert (status, told["code"]) == (504, "bot_timeout")
    await asyncio.wait_for(bot.gone.wait(), UP_S)
    async with asked.http.get(f"{asked.path}/events") as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    # A WebSocket may be silent for as long as it likes.
    await socket.send_str("one")
    assert await socket.receive_str() == "said: one"
    await socket.close()


async def test_it_has_a_bound_of_its_own(start, bot: Bot):
    asked = start(PIPECAT_GATEWAY_PROXIED_REQUESTS="1")
    async with asked.http.ws_connect(f"{asked.path}/lines"):
        status, told = await asked.gateway.call("GET", f"{asked.path}/echo")
        assert (status, told["code"]) == (503, "overloaded")
        assert (await asked.gateway.call("GET", f"/sessions/{asked.uid}"))[0] == 200


async def test_a_gateway_that_drains_ends_what_is_open(start, bot: Bot):
    asked = start(PIPECAT_GATEWAY_DRAIN_SECONDS="0.5")
    socket = await asked.http.ws_connect(f"{asked.path}/lines")
    async with asked.http.get(f"{asked.path}/events") as answer:
        await answer.content.readany()
        asking = asyncio.create_task(asked.gateway.call("GET", f"{asked.path}/never"))
        await asyncio.wait_for(bot.seen.wait(), UP_S)
        stopping = asyncio.create_task(asyncio.to_thread(asked.gateway.child.stop))
        assert (await socket.receive()).extra == "The gateway is shutting down; try again."
        assert socket.close_code == WSCloseCode.GOING_AWAY
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
        status, told = await asking
        assert (status, told["code"]) == (503, "shutting_down")
    assert await stopping == 0
