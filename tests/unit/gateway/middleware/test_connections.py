"""What connections may take up before there is a request, over sockets."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from pipecat_gateway.middleware.connections import HEAD_MAX, READ, Connections
from pipecat_local.processes import until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
NEVER_S = 3600.0
SOON_S = 1.0
"""Time enough for a head that is sent at once."""
LARGE = 64 * 1024 * 1024
"""More than kernels keep of what nobody takes."""
UP_S = 30.0


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, text: bytes) -> None:
        """Without waiting."""
        self._writer.write(text)

    async def told(self) -> bytes:
        """One whole answer's text."""
        async with asyncio.timeout(UP_S):
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            return await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(UP_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        """Hang up."""
        self._writer.transport.abort()


class Served:
    """An app that tells the length of a body; or waits, where the path says so, until it may go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.waiting = asyncio.Semaphore(0)
        self._callers: list[Caller] = []
        app = web.Application()
        app.router.add_route("*", "/", self._length)
        app.router.add_get("/wait", self._wait)
        app.router.add_get("/large", self._large)
        app.router.add_get("/lines", self._lines)
        self._runner = web.AppRunner(app, handler_cancellation=True)

    async def __call__(self, most: int = 100, head_s: float = NEVER_S, idle_s: float = NEVER_S) -> None:
        """Listen."""
        await self._runner.setup()
        assert self._runner.server
        made = Connections(self._runner.server, most, head_s, idle_s)
        self._listening = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listening.sockets[0].getsockname()
        return host, port

    async def caller(self, text: bytes = b"") -> Caller:
        """Who sends that."""
        made = Caller(*await asyncio.open_connection(*self.address))
        made.send(text)
        self._callers.append(made)
        return made

    async def close(self) -> None:
        """All of it."""
        for caller in self._callers:
            await caller.close()
        self._listening.close()
        await self._runner.cleanup()

    async def _length(self, request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def _large(self, _: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def _lines(self, request: web.Request) -> web.WebSocketResponse:
        lines = web.WebSocketResponse()
        await lines.prepare(request)
        async for message in lines:
            await lines.send_str(f"said: {message.data}")
        return lines

    async def end(self) -> asyncio.Task[None]:
        """As on SIGTERM: what is under way goes on."""
        self._listening.close()
        assert self._runner.server
        self._runner.server.pre_shutdown()
        return asyncio.create_task(self._runner.cleanup())

    async def until_nobody_is_connected(self) -> None:
        """As far as the server knows."""
        server = self._runner.server

        async def nobody() -> bool:
            return server is not None and not server.connections

        await until("nobody to be connected", nobody, UP_S)

    async def _wait(self, _: web.Request) -> web.Response:
        self.waiting.release()
        await self.go_on.wait()
        return web.Response(text="waited")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Not listening yet."""
    made = Served()
    yield made
    await made.close()


def fields(size: int) -> bytes:
    """Headers of so many bytes together."""
    line = b"X: " + b"y" * 995 + b"\r\n"
    return line * (size // len(line)) + b"Z: " + b"z" * (size % len(line) + 1) + b"\r\n"


def posted(length: int) -> bytes:
    """With a body of that length."""
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length + b" " * length


async def test_a_head_that_is_too_large_is_refused_before_it_ends(served: Served):
    await served()
    caller = await served.caller(GET + fields(HEAD_MAX))
    head, _, body = (await caller.rest()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body)["code"] == "head_too_large"
    assert b"Content-Length: %d\r\n" % len(body) in head


async def test_a_head_of_a_few_large_headers_is_served(served: Served):
    await served()
    caller = await served.caller(
        GET + b"Cookie: " + b"c" * 7000 + b"\r\nAuthorization: Bearer " + b"k" * 7000 + b"\r\n\r\n"
    )
    assert await caller.told() == b"0"


async def test_bodies_do_not_count_whatever_comes_before_or_after(served: Served):
    await served()
    caller = await served.caller(posted(10 * HEAD_MAX))
    assert await caller.told() == b"%d" % (10 * HEAD_MAX)
    for _ in range(2 * HEAD_MAX // READ):
        caller.send(posted(READ))
        assert await caller.told() == b"%d" % READ
    caller.send(GET + fields(HEAD_MAX // 2) + b"\r\n")
    assert await caller.told() == b"0"


async def test_a_head_after_a_body_has_the_same_bound(served: Served):
    await served()
    caller = await served.caller(posted(10 * HEAD_MAX))
    assert await caller.told() == b"%d" % (10 * HEAD_MAX)
    caller.send(GET + fields(HEAD_MAX))
    assert (await caller.rest()).startswith(b"HTTP/1.1 431 ")


async def test_requests_behind_one_that_waits_have_a_bound_and_it_is_answered(served: Served):
    await served()
    caller = await served.caller(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await served.waiting.acquire()
    for _ in range(4):
        caller.send(GET + fields(HEAD_MAX // 2) + b"\r\n")
    other = await served.caller()
    # Each answer is a turn of the loop, in which a part of all that is read.
    for _ in range(50):
        other.send(GET + b"\r\n")
        assert await other.told() == b"0"
    served.go_on.set()
    assert await caller.told() == b"waited"
    assert await caller.rest() == b""


async def test_some_requests_behind_one_that_waits_are_answered(served: Served):
    await served()
    caller = await served.caller(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await served.waiting.acquire()
    caller.send((GET + b"\r\n") * 5)
    served.go_on.set()
    assert [await caller.told() for _ in range(6)] == [b"waited"] + [b"0"] * 5


@pytest.mark.parametrize("text", [b"", GET])
async def test_a_head_that_does_not_arrive_is_given_up(served: Served, text: bytes):
    await served(head_s=SOON_S)
    assert await (await served.caller(text)).rest() == b""


async def test_a_head_that_has_begun_after_an_answer_is_given_up_and_who_is_idle_stays(served: Served):
    await served(head_s=SOON_S)
    idle, slow = await served.caller(GET + b"\r\n"), await served.caller(GET + b"\r\n")
    assert (await idle.told(), await slow.told()) == (b"0", b"0")
    slow.send(GET)
    assert await slow.rest() == b""
    idle.send(GET + b"\r\n")
    assert await idle.told() == b"0"


async def test_a_head_that_drips_behind_a_request_does_not_end_that(served: Served):
    await served(head_s=SOON_S)
    caller = await served.caller(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await served.waiting.acquire()
    caller.send(GET)
    assert await (await served.caller(GET)).rest() == b""
    served.go_on.set()
    assert await caller.told() == b"waited"
    assert await caller.rest() == b""


async def test_past_the_bound_who_was_longest_without_a_request_makes_room(served: Served):
    await served(most=3)
    busy = await served.caller(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await served.waiting.acquire()
    slow, kept = await served.caller(GET), await served.caller(GET + b"\r\n")
    assert await kept.told() == b"0"
    new = await served.caller(GET + b"\r\n")
    assert await new.told() == b"0"
    assert await slow.rest() == b""
    kept.send(GET + b"\r\n")
    assert await kept.told() == b"0"
    served.go_on.set()
    assert await busy.told() == b"waited"


async def test_past_the_bound_a_new_one_is_closed_when_all_have_a_request(served: Served):
    await served(most=2)
    busy = [await served.caller(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(2)]
    for _ in busy:
        await served.waiting.acquire()
    assert await (await served.caller(GET + b"\r\n")).rest() == b""
    served.go_on.set()
    assert [await one.told() for one in busy] == [b"waited"] * 2
    assert await (await served.caller(GET + b"\r\n")).told() == b"0"


@pytest.mark.parametrize("asked", [1, 20])
async def test_who_takes_no_answer_is_hung_up_on(served: Served, asked: int):
    await served(idle_s=SOON_S)
    await served.caller(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
    await served.until_nobody_is_connected()


async def test_an_answer_that_is_not_taken_yet_is_no_room_for_others(served: Served):
    await served(most=2)
    slow = await served.caller(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    quiet = await served.caller(GET + b"\r\n")
    # Its answer was begun after the other's.
    assert await quiet.told() == b"0"
    other = await served.caller(GET + b"\r\n")
    assert await other.told() == b"0"
    assert await quiet.rest() == b""
    assert len(await slow.told()) == LARGE


async def test_a_body_that_is_under_way_when_the_server_ends_arrives(served: Served):
    await served()
    caller = await served.caller(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\none")
    probe = await served.caller(GET + b"\r\n")
    assert await probe.told() == b"0"
    ending = await served.end()
    caller.send(b"two")
    assert await caller.told() == b"6"
    await ending


async def test_what_a_websocket_is_sent_when_the_server_ends_arrives(served: Served):
    await served()
    host, port = served.address
    async with aiohttp.ClientSession() as http, http.ws_connect(f"http://{host}:{port}/lines") as lines:
        ending = await served.end()
        await lines.send_str("one")
        assert await lines.receive_str(timeout=UP_S) == "said: one"
    await ending
