"""Who may what: middlewares in an app of a few routes, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from pipecat_gateway.keys.ring import Entry, KeyRing, anyone, hash_of, new_token
from pipecat_gateway.middleware import cors, limits
from pipecat_gateway.middleware.access import access, bearer
from pipecat_gateway.routes import KEY, Access, Handler, Route, added
from pipecat_gateway.wire.errors import Problem

KEYS: dict[str, dict[str, Any]] = {
    "web": {"kind": "public"},
    "bound": {"kind": "public", "bots": ("one",)},
    "slow": {"kind": "public", "rate": 0.5},
    "ops": {"kind": "private"},
    "bound-ops": {"kind": "private", "bots": ("one",)},
}
TOKENS = {key_id: new_token(key_id, fields["kind"]) for key_id, fields in KEYS.items()}
RING = KeyRing({key_id: Entry(hash=hash_of(TOKENS[key_id]), **fields) for key_id, fields in KEYS.items()})

ROUTES = (
    ("POST", "/start", Access.PUBLIC),
    ("POST", "/start_bot", Access.PUBLIC),
    ("POST", "/v1/public/{bot}/start", Access.PUBLIC),
    ("*", "/v1/public/{bot}/sessions/{id}/{path:.*}", Access.PUBLIC),
    ("GET", "/sessions/{id}", Access.PRIVATE),
    ("GET", "/v1/agents/{bot}/sessions", Access.PRIVATE),
    ("GET", "/healthz", Access.OPEN),
    ("GET", "/docs", Access.OPEN),
)

Started = Callable[..., Awaitable[TestClient]]


def route(method: str, path: str, who: Access, serve: Handler) -> Route:
    """One that starts if its name says so."""
    starts, quiet = "start" in path, path == "/healthz"
    return Route(method=method, path=path, serve=serve, access=who, summary="", starts=starts, quiet=quiet)


class Clock:
    """Stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def served() -> AsyncIterator[Started]:
    """Starts an app with those middlewares."""
    clients: list[TestClient] = []

    async def start(*middlewares: Any, origins: tuple[str, ...] = ()) -> TestClient:
        @web.middleware
        async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
            try:
                return cors.preflight(request, origins) if cors.is_preflight(request) else await handler(request)
            except Problem as problem:
                return problem.response()

        app = web.Application(middlewares=[problems, *middlewares])
        app.on_response_prepare.append(cors.headers(origins))

        async def who(request: web.Request) -> web.Response:
            return web.json_response({"who": request[KEY].id if KEY in request else None})

        added(app, [route(*one, who) for one in ROUTES])
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


async def asked(client: TestClient, method: str, path: str, token: str | None = None) -> tuple[int, Any, Any]:
    """Status, body and headers."""
    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    async with client.request(method, path, headers=headers) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


@pytest.mark.parametrize(
    ("method", "path", "may"),
    [
        ("POST", "/start", {"web", "ops", "bound", "bound-ops"}),
        ("POST", "/start_bot", {"web", "ops", "bound", "bound-ops"}),
        ("POST", "/v1/public/one/start", {"web", "ops", "bound", "bound-ops"}),
        ("POST", "/v1/public/two/start", {"web", "ops"}),
        ("GET", "/v1/public/one/sessions/x/y/z", {"web", "ops", "bound", "bound-ops"}),
        ("DELETE", "/v1/public/two/sessions/x/y", {"web", "ops"}),
        ("GET", "/sessions/x", {"ops", "bound-ops"}),
        ("GET", "/v1/agents/one/sessions", {"ops", "bound-ops"}),
        ("GET", "/v1/agents/two/sessions", {"ops"}),
    ],
)
async def test_who_may_what(served, method, path, may):
    client = await served(access(RING.find, "one"))
    for key_id in ("web", "ops", "bound", "bound-ops"):
        status, body, _ = await asked(client, method, path, TOKENS[key_id])
        if key_id in may:
            assert (status, body) == (200, {"who": key_id})
        elif KEYS[key_id]["kind"] == "public" and "public" not in path:
            assert (status, body["code"]) == (403, "private_key_required")
        else:
            assert (status, body) == (404, {"error": "There is no Bot 'two'.", "code": "unknown_bot"})


async def test_a_start_that_names_no_bot_is_of_the_default_one(served):
    client = await served(access(RING.find, "two"))
    assert (await asked(client, "POST", "/start", TOKENS["bound"]))[0] == 404
    assert (await asked(client, "POST", "/start_bot", TOKENS["bound"]))[0] == 404
    assert (await asked(client, "POST", "/start", TOKENS["web"]))[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/docs"])
async def test_what_needs_no_key(served, path):
    client = await served(access(RING.find, "one"))
    assert (await asked(client, "GET", path))[:2] == (200, {"who": None})


async def test_without_keys_everybody_is_anonymous(served):
    client = await served(access(anyone, "one"))
    for token in (None, TOKENS["web"]):
        assert (await asked(client, "GET", "/sessions/x", token))[:2] == (200, {"who": "anonymous"})


async def test_where_there_is_no_route_a_key_is_needed_to_be_told_so(served):
    @web.middleware
    async def not_found(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            raise Problem(error.status, "none", "") from None

    client = await served(not_found, access(RING.find, "one"))
    for path, code in (("/nowhere", "unauthorized"), ("/v1", "unauthorized"), ("/v1/agents/one/logs", "401")):
        status, body, _ = await asked(client, "GET", path)
        assert (status, body["code"]) == (401, code)
    assert (await asked(client, "GET", "/nowhere", TOKENS["web"]))[0] == 404
    assert (await asked(client, "GET", "/start", TOKENS["web"]))[0] == 405


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer pk_web_x",
        "Bearer sk_web_x",
        "Bearer pk_nobody_x",
        "Basic {web}",
        "{web}",
        "Bearer {web}x",
        "Bearer x {web}",
    ],
)
async def test_a_401_tells_nothing(served, header):
    client = await served(access(RING.find, "one"))
    headers = {} if header is None else {"Authorization": header.format(web=TOKENS["web"])}
    async with client.get("/sessions/x", headers=headers) as answer:
        told = (answer.status, await answer.json(), answer.headers["WWW-Authenticate"])
    error = "An API key is needed: Authorization: Bearer YOUR-KEY."
    assert told == (401, {"error": error, "code": "unauthorized"}, "Bearer")


@pytest.mark.parametrize("header", ["Bearer {}", "bearer {}", "BEARER   {}  "])
async def test_how_a_token_may_be_sent(served, header):
    client = await served(access(RING.find, "one"))
    async with client.post("/start", headers={"Authorization": header.format(TOKENS["web"])}) as answer:
        assert answer.status == 200


@given(header=st.binary(max_size=200).map(lambda raw: raw.decode(errors="surrogateescape")))
def test_any_bytes_as_header_are_nobodys_token(header):
    assert RING.find(bearer(header)) is None
    assert RING.find(bearer(f"Bearer {header}")) is None


async def test_starts_have_a_rate(served):
    clock = Clock()
    client = await served(access(RING.find, "one", clock))
    assert (await asked(client, "POST", "/start", TOKENS["slow"]))[0] == 200
    status, body, headers = await asked(client, "POST", "/v1/public/one/start", TOKENS["slow"])
    assert (status, body["code"], headers["Retry-After"]) == (429, "rate_limited", "2")
    assert body["error"] == "This API key may start 0.5 sessions a second."
    # Of this key, and of starts only.
    assert (await asked(client, "GET", "/v1/public/one/sessions/x/y", TOKENS["slow"]))[0] == 200
    assert (await asked(client, "POST", "/start", TOKENS["web"]))[0] == 200
    clock.now = 2.0
    assert (await asked(client, "POST", "/start", TOKENS["slow"]))[0] == 200


ASKING = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}


async def test_a_preflight_needs_no_key_and_is_answered_for_allowed_origins_only(served):
    client = await served(access(RING.find, "one"), origins=("https://app.test",))
    async with client.options("/start", headers=ASKING) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.test"
        assert answer.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type, Idempotency-Key"
        assert answer.headers["Vary"] == "Origin"
    for origins, headers in [((), ASKING), (("https://app.test",), {**ASKING, "Origin": "https://evil.test"})]:
        client = await served(access(RING.find, "one"), origins=origins)
        async with client.options("/start", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "origin_not_allowed")
            assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_page_may_read_a_refusal_too(served):
    client = await served(access(RING.find, "one"), origins=("*",))
    async with client.post("/start", headers={"Origin": "https://app.test"}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, "*")
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


async def test_an_answer_without_origin_says_that_it_depends_on_it(served):
    client = await served(access(anyone, "one"), origins=("https://app.test",))
    _, _, headers = await asked(client, "POST", "/start")
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in headers


async def test_past_the_bound_one_is_told_to_come_again_and_health_is_told(served):
    client = await served(limits.bounded(0, 1), access(RING.find, "one"))
    status, body, headers = await asked(client, "POST", "/start", TOKENS["web"])
    assert (status, body["code"], headers["Retry-After"]) == (503, "overloaded", "1")
    assert (await asked(client, "GET", "/healthz"))[0] == 200


async def test_a_request_that_ends_makes_room(served):
    client = await served(limits.bounded(1, 1), access(RING.find, "one"))
    for token in (TOKENS["web"], "nobody", TOKENS["web"]):
        assert (await asked(client, "POST", "/start", token))[0] != 503


async def test_a_key_has_its_share_of_what_may_be_open(served):
    """Of four at once one is each key's; the anonymous one has them all."""
    entered, leave = asyncio.Event(), asyncio.Event()

    @web.middleware
    async def waits(request: web.Request, handler: Handler) -> web.StreamResponse:
        entered.set()
        await leave.wait()
        return await handler(request)

    client = await served(access(RING.find, "one"), limits.shared(4, 4), waits)
    first = asyncio.create_task(asked(client, "POST", "/start", TOKENS["web"]))
    await entered.wait()
    status, body, headers = await asked(client, "POST", "/start", TOKENS["web"])
    assert (status, body["code"], headers["Retry-After"]) == (429, "too_many_open", "1")
    leave.set()
    assert (await first)[0] == 200
    assert (await asked(client, "POST", "/start", TOKENS["ops"]))[0] == 200
    assert (await asked(client, "POST", "/start", TOKENS["web"]))[0] == 200


@pytest.mark.parametrize(
    ("origin", "status"), [("https://app.test", 200), ("https://evil.test", 403), ("null", 403), ("http://[", 403)]
)
async def test_without_keys_a_page_may_not_even_send_what_needs_no_preflight(served, origin, status):
    client = await served(access(anyone, "one"), cors.closed(("https://app.test",), loopback=False))
    async with client.post("/start", headers={"Origin": origin}) as answer:
        assert answer.status == status
    async with client.get(
        "/start", headers={"Origin": origin, "Connection": "Upgrade", "Upgrade": "websocket"}
    ) as answer:
        assert answer.status == (status if status == 403 else 405)
    own = {"Origin": str(client.make_url("/")).rstrip("/")}
    async with client.post("/start", headers=own) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "localhost:7860", "127.0.0.1:7860", "127.9.9.9", "[::1]:7860")),
        *((host, 403) for host in ("evil.test:7860", "10.1.2.3", "localhost.evil.test", "::1", "")),
    ],
)
async def test_a_name_that_was_led_to_this_machine_is_refused(served, host, status):
    """As DNS rebinding does: to a browser it is the page's own origin."""
    client = await served(access(anyone, "one"), cors.closed((), loopback=True))
    headers = {"Host": host, "Origin": f"http://{host}"}
    for method in ("GET", "POST"):
        async with client.request(method, "/sessions/x" if method == "GET" else "/start", headers=headers) as answer:
            assert answer.status == status


async def test_what_can_be_read_can_be_asked_for_its_head(served):
    client = await served(access(RING.find, "one"))
    async with client.head("/healthz") as answer:
        assert answer.status == 200
    async with client.head("/sessions/x") as answer:
        assert answer.status == 401
