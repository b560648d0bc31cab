"""The host as a process of its own, beside the Daily and OpenAI stand-ins; callers join as processes too."""

import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipecat_local.processes import tethered, wait_until
from pipecat_local.serving import PYTHONPATH
from support.keys import DAILY_KEY_OF_BOTS as DAILY_KEY
from support.keys import OPENAI_KEY

READY_S = 40.0
EXIT_S = 40.0


@dataclass(frozen=True)
class Outcome:
    """How a host ended."""

    code: int
    reason: str
    message: str
    log: str


@dataclass(frozen=True)
class Room:
    """A private room and a token of each kind."""

    url: str
    name: str
    bot_token: str
    user_token: str


class Daily:
    """The stand-in's REST API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """JSON in, JSON out."""
        headers = {"Authorization": f"Bearer {DAILY_KEY}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def room(self) -> Room:
        """A fresh one."""
        made = self.call("POST", "/v1/rooms", {"privacy": "private", "properties": {"exp": int(time.time()) + 600}})
        tokens = [
            self.call("POST", "/v1/meeting-tokens", {"properties": {"room_name": made["name"], "is_owner": owner}})
            for owner in (True, False)
        ]
        return Room(made["url"], made["name"], tokens[0]["token"], tokens[1]["token"])

    def present(self, room: Room) -> int:
        """How many are in the room."""
        return len(self.call("GET", "/_standin/state")["presence"].get(room.name, []))


class Hosted:
    """One host process."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, address: str) -> None:
        self.process = process
        self._folder = folder
        self.address = address

    @property
    def log(self) -> str:
        """So far."""
        return (self._folder / "log").read_text(errors="replace")

    def http(self, path: str) -> int:
        """Status of a probe; 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:8080{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait_for_ready(self) -> None:
        """Until /readyz answers 200."""
        wait_until("/readyz", lambda: self.http("/readyz") == 200 or self.process.poll() is not None, READY_S)
        assert self.process.poll() is None, self.log

    def wait_for_log(self, text: str) -> None:
        """Until the log holds it."""
        wait_until(f"{text!r} in the log", lambda: text in self.log or self.process.poll() is not None, READY_S)
        assert text in self.log

    def outcome(self) -> Outcome:
        """Wait for its end."""
        code = self.process.wait(timeout=EXIT_S)
        said = json.loads((self._folder / "termination-log").read_text())
        return Outcome(code, said["reason"], said["message"], self.log)


def _serve(module: str, *flags: str) -> Iterator[str]:
    env = {**os.environ, "DAILY_API_KEY": DAILY_KEY, "OPENAI_API_KEY": OPENAI_KEY}
    command = tethered([sys.executable, "-m", module, "--port", "0", *flags])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


@pytest.fixture(scope="session")
def daily() -> Iterator[Daily]:
    """The Daily stand-in."""
    for url in _serve("pipecat_local.daily", "--no-limits"):
        yield Daily(url)


@pytest.fixture(scope="session")
def openai() -> Iterator[str]:
    """The OpenAI stand-in's address."""
    yield from _serve("pipecat_local.openai")


@pytest.fixture
def room(daily: Daily) -> Room:
    """A room of the test's own."""
    return daily.room()


Start = Callable[..., Hosted]


@pytest.fixture
def host(room: Room, openai: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the host for a bot: ``host(file_or_source, NAME=value, ...)``; None removes a variable."""
    started: list[Hosted] = []

    def start(bot: Path | str, **changes: str | None) -> Hosted:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        if isinstance(bot, str):
            (folder / "bot.py").write_text(bot)
            bot = folder / "bot.py"
        (folder / "body.json").write_text('{"topic": "gardens"}')
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
        env: dict[str, str | None] = {
            **os.environ,
            "PYTHONPATH": str(PYTHONPATH),
            "DAILY_ROOM_URL": room.url,
            "DAILY_ROOM_TOKEN": room.bot_token,
            "PIPECAT_SESSION_ID": "7d0c",
            "PIPECAT_SESSION_BODY_FILE": str(folder / "body.json"),
            "PIPECAT_TERMINATION_MESSAGE_PATH": str(folder / "termination-log"),
            "PIPECAT_BOT_FILE": str(bot),
            "POD_IP": address,
            "OPENAI_API_KEY": OPENAI_KEY,
            "OPENAI_BASE_URL": f"{openai}/v1",
            "ELEVENLABS_API_KEY": OPENAI_KEY,
            "ELEVENLABS_VOICE_ID": "any",
            "ELEVENLABS_API_URL": openai.replace("http", "ws", 1),
            "OPENBLAS_NUM_THREADS": "1",
            **changes,
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                tethered([sys.executable, "-m", "pipecat_bot"]),
                cwd=folder,
                env={name: value for name, value in env.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        started.append(Hosted(process, folder, address))
        return started[-1]

    yield start
    for hosted in started:
        hosted.process.kill()
        hosted.process.wait()


Join = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def caller(room: Room) -> Iterator[Join]:
    """Joins the room as a user: ``caller("--questions", "1")``; says nothing and stays unless told otherwise."""
    started: list[subprocess.Popen[str]] = []

    def join(*flags: str) -> "subprocess.Popen[str]":
        flags = flags or ("--questions", "0", "--stay", "60")
        command = tethered([sys.executable, "-m", "pipecat_local.caller", "--room-url", room.url, *flags])
        env = {**os.environ, "CALLER_TOKEN": room.user_token}
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield join
    for process in started:
        process.kill()
        process.communicate()


def joined(caller: "subprocess.Popen[str]") -> None:
    """Until the caller says that it is in the room."""
    assert caller.stdout
    assert json.loads(caller.stdout.readline())["event"] == "joined"
