"""Bots written for Pipecat Cloud: HTTP routes of their own, and its names for what they are handed."""

import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import pipecat_bot
from pipecat_local.serving import PYTHONPATH

from .conftest import Hosted, Join, Start, joined

BOTS = Path(__file__).with_name("bots")
CLOUDS = Path(pipecat_bot.__file__).with_name("last_on_path")
"""Put first, the host's own ``pipecatcloud`` is found though another may be installed here."""


class Client:
    """One connection to a bot's port, kept open."""

    def __init__(self, address: str) -> None:
        self.http = http.client.HTTPConnection(address, 8080, timeout=20)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        data = None if body is None else json.dumps(body)
        self.http.request(method, path, data, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        text = answer.read()
        kind = answer.headers.get("Content-Type")
        return answer.status, json.loads(text) if kind == "application/json" else text.decode()


@pytest.fixture
def hosted(host: Start) -> Hosted:
    """The bot with routes, in its room."""
    found = host(BOTS / "routes.py", PIPECAT_TERMINATION_GRACE_SECONDS="10")
    found.wait_for_ready()
    return found


@pytest.fixture
def ask(hosted: Hosted) -> Iterator[Client]:
    """Of that bot's routes."""
    client = Client(hosted.address)
    yield client
    client.http.close()


def stop(hosted: Hosted) -> str:
    """End it in good order; its log."""
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log
    assert "The bot's own last line" in outcome.log
    assert "the app's own last line" in outcome.log
    assert "did not end in time" not in outcome.log
    return outcome.log


def test_routes_see_the_bot_and_its_pipeline(hosted: Hosted, ask: Client, caller: Join) -> None:
    """In the call, one connection after the other's answer; probes go on as without routes."""
    joined(caller())
    code, status = ask("GET", "/status")
    assert code == 200
    assert status["in pipeline"]
    assert (status["session_id"], status["body"]) == ("7d0c", {"topic": "gardens"})
    assert status["loop"] == status["bot_loop"]
    assert ask("POST", "/speak", {"text": "a line from outside"}) == (200, {"said": "a line from outside"})
    assert ask("PUT", "/length", {"text": "x" * 300_000}) == (200, {"length": 300_000})
    assert ask("POST", "/speak", {"other": 1})[0] == 422
    assert ask("GET", "/nothing-there")[0] == 404
    assert [hosted.http(path) for path in ("/readyz", "/livez", "/status")] == [200, 200, 200]


def test_what_is_meant_for_another_sessions_bot_is_refused(hosted: Hosted) -> None:
    """Whose pod had the address before."""
    for meant, answered, told in (("7d0c", 200, None), ("another", 421, "other-session")):
        connection = http.client.HTTPConnection(hosted.address, 8080, timeout=20)
        connection.request("GET", "/status", headers={"X-Pipecat-Session-Id": meant})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["X-Pipecat-Refused"]) == (answered, told)
        connection.close()
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://{hosted.address}:8080/lines", additional_headers={"X-Pipecat-Session-Id": "another"}),
    ):
        pass
    assert refused.value.response.status_code == 421


def test_neither_requests_nor_their_bodies_are_logged(hosted: Hosted, ask: Client) -> None:
    """What goes wrong in a route is."""
    ask("POST", "/speak", {"text": "what nobody else may read"})
    assert ask("GET", "/broken")[0] == 500
    log = stop(hosted)
    assert "says 25 characters" in log
    assert "what nobody else may read" not in log
    assert "/speak" not in log
    assert "a route of the bot's broke" in log


def test_a_websocket_of_the_bots_own(hosted: Hosted) -> None:
    """It is open until the end, and holds nothing up then."""
    with connect(f"ws://{hosted.address}:8080/lines") as socket:
        for line in ("one", "two"):
            socket.send(line)
            assert socket.recv(timeout=20) == f"said: {line}"
        stop(hosted)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize("path", ["/never", "/blocks"])
def test_a_request_that_is_never_answered_does_not_hold_up_the_end(path: str, hosted: Hosted, ask: Client) -> None:
    """Be it on the event loop or on a thread."""
    ask.http.request("GET", path)
    hosted.wait_for_log("asked for ever")
    stop(hosted)


def test_routes_are_served_before_the_bot_joins(host: Start) -> None:
    """And signals stay the host's: the bot has no pipeline yet that would give them back to it."""
    hosted = host(
        "import asyncio, sys\n"
        "from pipecatcloud_system import app\n"
        "app.get('/early')(lambda: 'here')\n"
        "async def bot(args):\n    print('preparing', file=sys.stderr)\n    await asyncio.sleep(600)\n"
    )
    hosted.wait_for_log("preparing")
    assert (hosted.http("/early"), hosted.http("/readyz"), hosted.http("/livez")) == (200, 503, 200)
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log


LIFESPAN = """
import contextlib, sys
from pipecatcloud_system import app
@contextlib.asynccontextmanager
async def lifespan(app):
    {startup}
    yield
    {shutdown}
app.router.lifespan_context = lifespan
async def bot(args):
    print('bot begins', file=sys.stderr)
"""


def test_an_app_that_does_not_start(host: Start) -> None:
    outcome = host(LIFESPAN.format(startup="raise RuntimeError('no database')", shutdown="")).outcome()
    assert (outcome.code, outcome.reason) == (70, "BotFailed"), outcome.log
    assert outcome.message == "The bot's HTTP app did not start: its lifespan raised, see the log."
    assert "no database" in outcome.log
    assert "bot begins" not in outcome.log


@pytest.mark.parametrize(
    "shutdown",
    ["await __import__('asyncio').Event().wait()", "raise RuntimeError('no goodbye')"],
    ids=["hangs", "raises"],
)
def test_an_app_that_does_not_end_well_changes_nothing(shutdown: str, host: Start) -> None:
    outcome = host(LIFESPAN.format(startup="", shutdown=shutdown)).outcome()
    assert (outcome.code, outcome.reason) == (70, "BotFailed"), outcome.log
    assert "without having joined" in outcome.message


def test_a_bot_without_routes_serves_none(host: Start) -> None:
    """Nor does it load what serves them."""
    told = (BOTS / "plain.py").read_text() + (
        "    servers = {'fastapi', 'starlette', 'uvicorn', 'pipecatcloud', 'pipecatcloud_system'}\n"
        "    print('loaded:', sorted(servers & set(sys.modules)), file=sys.stderr)\n"
    )
    hosted = host(told)
    hosted.wait_for_ready()
    assert (hosted.http("/status"), hosted.http("/docs"), hosted.http("/readyz")) == (404, 404, 200)
    hosted.process.send_signal(signal.SIGTERM)
    assert "loaded: []" in hosted.outcome().log


TYPES = """from pipecatcloud.agent import (
    DailySessionArguments, PipecatSessionArguments, SessionArguments, WebSocketSessionArguments)"""


@pytest.mark.parametrize(("top", "within"), [(TYPES, "..."), ("", TYPES)], ids=["at the top", "in the function"])
def test_a_bot_asks_what_it_was_handed(top: str, within: str, host: Start) -> None:
    """By Pipecat Cloud's types, and by Pipecat's, which both its examples and its migration notes do."""
    asks = (
        f"import sys\nfrom pipecat.runner.types import DailyRunnerArguments\n{top}\n"
        f"async def bot(args):\n    {within}\n"
        "    is_ = [isinstance(args, kind) for kind in (DailyRunnerArguments, DailySessionArguments, SessionArguments,"
        " PipecatSessionArguments, WebSocketSessionArguments)]\n"
        "    print(is_, args.session_id, args.body, bool(args.token), args.room_url, file=sys.stderr)\n"
    )
    outcome = host(asks, PYTHONPATH=f"{PYTHONPATH}:{CLOUDS}").outcome()
    assert "[True, True, True, False, False] 7d0c {'topic': 'gardens'} True http" in outcome.log


def test_the_real_distribution_goes_before_the_hosts(host: Start, tmp_path: Path) -> None:
    """Installed beside the bot, as docs/bots.md has packages added."""
    folder = tmp_path / "app"
    (folder / "pipecatcloud").mkdir(parents=True)
    (folder / "pipecatcloud" / "__init__.py").touch()
    (folder / "pipecatcloud" / "agent.py").write_text(
        "from dataclasses import dataclass\nfrom pipecat.runner.types import DailyRunnerArguments\n"
        "@dataclass\nclass DailySessionArguments(DailyRunnerArguments): ...\n"
    )
    asks = (
        "import sys\nfrom pipecatcloud import agent\nasync def bot(args):\n"
        "    print(agent.__file__, type(args) is agent.DailySessionArguments, file=sys.stderr)\n"
    )
    (folder / "bot.py").write_text(asks)
    outcome = host(folder / "bot.py").outcome()
    assert f"{folder}/pipecatcloud/agent.py True" in outcome.log
