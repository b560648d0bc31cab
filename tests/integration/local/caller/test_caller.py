"""The caller in a real room of the Daily stand-in, with a bot that says what the test wants: what it reports."""

import json
import os
import random
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipecat_local.caller.judge import Verdict
from pipecat_local.processes import tethered
from pipecat_local.speech.phrases import BOOK, UNLISTED, Entry
from pipecat_local.speech.recogniser import LOUD, RATE, Recogniser
from support.keys import DAILY_KEY_OF_BOTS as KEY

SEED = 11
CALL_S = 90.0
BOT = Path(__file__).with_name("bot.py")


@pytest.fixture(scope="module")
def daily() -> Iterator[str]:
    command = tethered([sys.executable, "-m", "pipecat_local.daily", "--port", "0", "--no-limits"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "DAILY_API_KEY": KEY}) as process:
        assert process.stdout
        yield json.loads(process.stdout.readline())["url"]
        process.terminate()


def post(url: str, body: Any) -> Any:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


Call = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def call(daily: str) -> Iterator[Call]:
    """A call with a bot that says these words: exit code and result of the caller."""
    room = post(f"{daily}/v1/rooms", {"privacy": "private", "properties": {"exp": int(time.time()) + 600}})
    started: list[subprocess.Popen[str]] = []

    def token(owner: bool) -> str:
        properties = {"room_name": room["name"], "is_owner": owner}
        return str(post(f"{daily}/v1/meeting-tokens", {"properties": properties})["token"])

    def run(says: list[str], *flags: str) -> tuple[int, dict[str, Any]]:
        env = {**os.environ, "BOT_TOKEN": token(True), "SAYS": json.dumps(says)}
        command = tethered([sys.executable, str(BOT), room["url"]])
        bot = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        started.append(bot)
        assert bot.stdout
        assert bot.stdout.readline() == "joined\n"
        env = {**os.environ, "CALLER_TOKEN": token(False)}
        command = [sys.executable, "-m", "pipecat_local.caller", "--room-url", room["url"], "--seed", str(SEED), *flags]
        caller = subprocess.Popen(tethered(command), env=env, stdout=subprocess.PIPE, text=True)
        started.append(caller)
        said, _ = caller.communicate(timeout=CALL_S)
        return caller.returncode, json.loads(said.splitlines()[-1])

    yield run
    for process in started:
        process.kill()
        process.communicate()


def drawn() -> Entry:
    """The question that the seed draws."""
    return random.Random(SEED).sample(BOOK.entries, k=1)[0]


def test_right_answer_and_its_recording(call: Call, tmp_path: Path) -> None:
    entry = drawn()
    code, result = call([entry.answer], "--questions", "1", "--record", str(tmp_path / "call.wav"))
    assert (code, result["ok"]) == (0, True)
    turn = result["turns"][0]
    assert (turn["question"], turn["heard"], turn["verdict"]) == (entry.question, entry.answer, Verdict.RIGHT)
    with wave.open(str(tmp_path / "call.wav")) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, RATE)
        both = np.frombuffer(recording.readframes(recording.getnframes()), np.int16).reshape(-1, 2)
    left, right = both[:, 0], both[:, 1]
    assert Recogniser(BOOK.heard_by_bot()).recognise(left.tobytes(), RATE) == entry.question
    # The answer is on the right, after the question on the left.
    last_of_question = np.flatnonzero(np.abs(left) > LOUD)[-1]
    after = right[last_of_question:]
    assert Recogniser(BOOK.heard_by_caller()).recognise(after.tobytes(), RATE) == entry.answer
    assert turn["latency_s"] > 0


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ("near miss", Verdict.WRONG),
        (BOOK.sorry, Verdict.WRONG),
        (UNLISTED[1], Verdict.UNRECOGNISED),
        ("noise", Verdict.UNRECOGNISED),
        ("nothing", Verdict.SILENCE),
    ],
)
def test_anything_else_is_reported_and_fails(call: Call, says: str, verdict: Verdict) -> None:
    entry = drawn()
    code, result = call([entry.near_misses[0] if says == "near miss" else says], "--questions", "1")
    assert (code, result["ok"]) == (1, False)
    assert result["turns"][0]["verdict"] == verdict
    assert verdict in result["why"]


def test_it_may_say_nothing_and_stay(call: Call) -> None:
    code, result = call([], "--questions", "0", "--stay", "2")
    assert (code, result["ok"], result["turns"]) == (0, True, [])


def test_a_wrong_token_is_reported(daily: str) -> None:
    room = post(f"{daily}/v1/rooms", {"privacy": "private"})
    command = [sys.executable, "-m", "pipecat_local.caller", "--room-url", room["url"]]
    env = {**os.environ, "CALLER_TOKEN": "wrong"}
    done = subprocess.run(tethered(command), env=env, capture_output=True, text=True, timeout=60, check=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, result["ok"]) == (1, False)
    assert result["why"].startswith("could not join")
