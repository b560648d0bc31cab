"""The Daily stand-in over HTTP, and its ``daily`` package in a real room."""

import asyncio
import importlib.util
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from pipecat_local.serving import PYTHONPATH
from support.keys import DAILY_KEY_OF_THE_STAND_IN as KEY
from support.operated import Child

RATE = 16000
WAIT_S = 20.0


@pytest.fixture(scope="module")
def package() -> Any:
    """The stand-in package, beside the real one that is installed."""
    spec = importlib.util.spec_from_file_location("stand_in_daily", PYTHONPATH / "daily" / "__init__.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["stand_in_daily"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Child]:
    """With Daily's limits."""
    child = Child([sys.executable, "-m", "pipecat_local.daily"], {"DAILY_API_KEY": KEY}, tmp_path / "daily.log")
    yield child
    child.stop()


@pytest.fixture
async def http(server: Child) -> AsyncIterator[aiohttp.ClientSession]:
    """With the key."""
    async with aiohttp.ClientSession(server.ready["url"], headers={"Authorization": f"Bearer {KEY}"}) as client:
        yield client


async def call(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    async with http.request(method, path, json=body) as answer:
        return answer.status, await answer.json()


async def test_a_rooms_life_over_rest(http: aiohttp.ClientSession):
    status, room = await call(http, "POST", "/v1/rooms", {"name": "r", "privacy": "private"})
    assert (status, room["privacy"], room["url"].endswith("/r")) == (200, "private", True)
    assert (await call(http, "GET", "/v1/rooms/r"))[1]["id"] == room["id"]
    assert await call(http, "DELETE", "/v1/rooms/r") == (200, {"deleted": True, "name": "r"})
    assert (await call(http, "GET", "/v1/rooms/r"))[0] == 404


async def test_another_key_is_refused(server: Child):
    async with aiohttp.ClientSession(server.ready["url"]) as nobody:
        assert (await call(nobody, "GET", "/v1/rooms"))[1]["error"] == "authentication-error"


async def test_pages(http: aiohttp.ClientSession):
    for number in range(5):
        await call(http, "POST", "/v1/rooms", {"name": f"r{number}"})
    _, first = await call(http, "GET", "/v1/rooms?limit=3")
    _, second = await call(http, "GET", f"/v1/rooms?limit=3&starting_after={first['data'][-1]['id']}")
    assert (first["total_count"], len(first["data"]), len(second["data"])) == (5, 3, 2)
    assert {room["name"] for room in first["data"] + second["data"]} == {f"r{number}" for number in range(5)}


async def test_too_many_calls(http: aiohttp.ClientSession):
    answers = await asyncio.gather(*(call(http, "GET", "/v1/rooms") for _ in range(40)))
    refused = [body for status, body in answers if status == 429]
    assert refused
    assert all(body["error"] == "rate-limit-error" for body in refused)
    assert len(answers) - len(refused) >= 20


class Listener:
    """Somebody in a room: what came, and a way to wait for it."""

    def __init__(self, package: Any, url: str, token: str | None, name: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.sound = bytearray()
        self._changed = threading.Condition()
        listener = self

        class Handler(package.EventHandler):
            def __getattr__(self, event: str) -> Any:
                if event.startswith("on_"):
                    return lambda *arguments: listener.tell(event, arguments)
                raise AttributeError(event)

        self.source = package.CustomAudioSource(RATE, 1)
        track = package.CustomAudioTrack(self.source)
        self.client = package.CallClient(event_handler=Handler())
        self.client.set_user_name(name)
        settings = {"inputs": {"microphone": {"isEnabled": True, "settings": {"customTrack": {"id": track.id}}}}}
        self.client.join(url, token, client_settings=settings, completion=lambda *a: self.tell("joined", a))
        self.data, self.error = self.until("joined")

    def tell(self, event: str, arguments: Any) -> None:
        with self._changed:
            self.events.append((event, arguments))
            self._changed.notify_all()

    def until(self, event: str) -> Any:
        """The arguments of the first event of that name."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = [arguments for name, arguments in self.events if name == event]
            return bool(found)

        with self._changed:
            assert self._changed.wait_for(there, WAIT_S), f"no {event} among {[name for name, _ in self.events]}"
        return found[0]

    def hear(self, participant: str) -> None:
        def heard(_: str, audio: Any, __: str) -> None:
            with self._changed:
                self.sound += audio.audio_frames
                self._changed.notify_all()

        self.client.set_audio_renderer(participant, heard, sample_rate=RATE, callback_interval_ms=20)

    def until_heard(self, enough: Callable[[np.ndarray], bool]) -> np.ndarray:
        with self._changed:
            assert self._changed.wait_for(lambda: enough(np.frombuffer(self.sound, np.int16)), WAIT_S)
            return np.frombuffer(bytes(self.sound), np.int16)

    def close(self) -> None:
        self.client.leave(completion=lambda *a: self.tell("left", a))
        self.until("left")
        self.client.release()


def loud(samples: np.ndarray) -> int:
    return int((np.abs(samples) > 1000).sum())


async def _room(http: aiohttp.ClientSession, **properties: Any) -> tuple[str, str, str]:
    _, room = await call(http, "POST", "/v1/rooms", {"name": "r", "privacy": "private", "properties": properties})
    tokens = []
    for owner in (True, False):
        asked = {"room_name": "r", "is_owner": owner}
        tokens.append((await call(http, "POST", "/v1/meeting-tokens", {"properties": asked}))[1]["token"])
    return room["url"], tokens[0], tokens[1]


async def test_two_hear_each_other_and_see_each_other_go(http: aiohttp.ClientSession, package: Any):
    url, owner, guest = await _room(http)

    def talk() -> None:
        bot, user = Listener(package, url, owner, "Bot"), Listener(package, url, guest, "User")
        (joined,) = bot.until("on_participant_joined")
        assert joined["info"]["userName"] == "User"
        assert joined["info"]["isOwner"] is False
        bot.hear(joined["id"])
        (there,) = user.until("on_participant_joined")
        assert there["info"]["isOwner"] is True
        wave = (8000 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.int16)
        began = time.monotonic()
        user.source.write_frames(wave.tobytes(), lambda count: user.tell("played", count))
        assert user.until("played") == RATE
        assert time.monotonic() - began >= 0.9, "sound takes its time"
        samples = bot.until_heard(lambda heard: loud(heard) >= loud(wave) * 0.98)
        assert np.abs(samples).max() == pytest.approx(8000, rel=0.05)
        user.client.send_app_message({"hello": 1}, None)
        assert bot.until("on_app_message")[0] == {"hello": 1}
        user.close()
        assert bot.until("on_participant_left")[1] == "leftCall"
        bot.close()

    await asyncio.to_thread(talk)


async def test_a_refused_join_says_why(http: aiohttp.ClientSession, package: Any):
    url, _, _ = await _room(http)
    refused = await asyncio.to_thread(Listener, package, url, None, "Nobody")
    assert "not allowed" in refused.error
    refused.client.release()


async def test_the_room_ends_at_its_expiry(http: aiohttp.ClientSession, package: Any):
    url, owner, _ = await _room(http, exp=time.time() + 2, eject_at_room_exp=True)

    def stay() -> None:
        bot = Listener(package, url, owner, "Bot")
        assert "ended" in bot.until("on_error")[0]
        states = [arguments[0] for name, arguments in bot.events if name == "on_call_state_updated"]
        assert states[:1] == ["joined"]
        bot.until("on_error")
        bot.client.release()

    await asyncio.to_thread(stay)


async def test_a_deleted_room_puts_everybody_out(http: aiohttp.ClientSession, package: Any):
    url, owner, _ = await _room(http)
    bot = await asyncio.to_thread(Listener, package, url, owner, "Bot")
    await call(http, "DELETE", "/v1/rooms/r")
    assert await asyncio.to_thread(bot.until, "on_error")
    bot.client.release()
