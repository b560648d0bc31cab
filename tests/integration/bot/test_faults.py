"""Bots that fail, block, or want things their own way."""

import os
import signal
import socket
from pathlib import Path

import pytest

from pipecat_local.processes import wait_until

from .conftest import Daily, Join, Room, Start, joined

PLAIN = Path(__file__).with_name("bots") / "plain.py"


def variant(**replacements: str) -> str:
    """The plain bot, its ``runner = ...`` line or pipeline changed."""
    source = PLAIN.read_text()
    for before, to in replacements.items():
        mark = {"RUN": "    await runner.run()\n", "WORKER": "PipelineWorker(Pipeline(", "SAYER": "Sayer()"}[before]
        assert mark in source
        source = source.replace(mark, to)
    return source


# No bot, or none that can run


@pytest.mark.parametrize(
    ("source", "code", "reason", "message"),
    [
        ("raise RuntimeError('no luck')", 70, "BotFailed", "raised RuntimeError: no luck"),
        ("import nothing_of_that_name", 70, "BotFailed", "No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", 70, "BotFailed", "raised SystemExit: 3"),
        ("def bott(): ...", 64, "BadConfig", "define `async def bot(runner_args)`"),
        ("async def bot(args): raise KeyError('who')", 70, "BotFailed", "bot() raised KeyError: 'who'"),
        ("async def bot(args): raise SystemExit(4)", 70, "BotFailed", "bot() exited with 4."),
        ("async def bot(args): return", 70, "BotFailed", "without having joined"),
        ("def bot(args): return", 70, "BotFailed", "bot() raised TypeError"),
    ],
)
def test_no_bot_to_run(source: str, code: int, reason: str, message: str, host: Start) -> None:
    outcome = host(source).outcome()
    assert (outcome.code, outcome.reason) == (code, reason), outcome.log
    assert message in outcome.message


def test_no_file(host: Start) -> None:
    outcome = host(Path("nowhere.py")).outcome()
    assert (outcome.code, outcome.reason) == (64, "BadConfig")
    assert "There is no nowhere.py" in outcome.message
    assert "PIPECAT_BOT_FILE" in outcome.message


def test_an_incomplete_environment(host: Start) -> None:
    """One message names all that is wrong, and no value."""
    wrong = {"DAILY_ROOM_TOKEN": None, "PIPECAT_MAX_DURATION_SECONDS": "an hour", "PIPECAT_SESSION_BODY_FILE": "/none"}
    outcome = host(PLAIN, **wrong).outcome()
    assert (outcome.code, outcome.reason) == (64, "BadConfig")
    for name in wrong:
        assert name in outcome.message
    assert "an hour" not in outcome.message + outcome.log


def test_a_taken_address(host: Start) -> None:
    with socket.create_server(("127.77.77.77", 8080)):
        outcome = host(PLAIN, POD_IP="127.77.77.77").outcome()
    assert (outcome.code, outcome.reason) == (64, "BadConfig")
    assert "127.77.77.77:8080" in outcome.message


# What a bot is given, and does by itself


def test_what_a_bot_is_given(host: Start, room: Room, tmp_path: Path) -> None:
    """Body and session id; the bot author's own setup file is run too; tokens stay out of the log."""
    hook = tmp_path / "hook.py"
    hook.write_text(
        "import sys\n"
        "async def setup_worker_runner(runner): print('own hook: runner', file=sys.stderr)\n"
        "async def setup_pipeline_worker(worker): print('own hook: pipeline', file=sys.stderr)\n"
    )
    leak = "    print('leak', runner_args.token)\n    from loguru import logger\n    logger.info(runner_args.token)\n"
    crash = "    secret = runner_args.token\n    raise ValueError(f'bad {secret}')\n"
    hosted = host(variant(RUN=f"{leak}    await runner.run()\n{crash}"), PIPECAT_SETUP_FILES=str(hook))
    hosted.wait_for_ready()
    assert hosted.http("/livez") == 200
    assert hosted.http("/other") == 404
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert outcome.reason == "Stopped"
    assert "session 7d0c body {'topic': 'gardens'}" in outcome.log
    assert "own hook: runner" in outcome.log
    assert "own hook: pipeline" in outcome.log
    assert "leak ***" in outcome.log
    assert "ValueError: bad ***" in outcome.log
    assert room.bot_token not in outcome.log + outcome.message


FINISHES = """
    import asyncio
    async def hang_up():
        await asyncio.sleep(0.5)
        await runner.stop_when_done()
    task = asyncio.create_task(hang_up())
    await runner.run()
"""


def test_the_bot_hangs_up(host: Start) -> None:
    outcome = host(variant(RUN=FINISHES)).outcome()
    assert (outcome.code, outcome.reason) == (0, "BotFinished"), outcome.log


def test_pipecats_own_idle_timeout(host: Start, caller: Join) -> None:
    """A bot that sets one, shorter than the host's."""
    hosted = host(variant(WORKER="PipelineWorker(idle_timeout_secs=1, pipeline=Pipeline("))
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Idle"), outcome.log


def test_a_part_that_cannot_do_its_job(host: Start, caller: Join) -> None:
    """The default bot with a key that OpenAI rejects: it ends, and says why."""
    default = Path(__file__).parents[3] / "bot_image" / "bot.py"
    hosted = host(default, OPENAI_API_KEY="sk-another-key-than-the-right-one")
    hosted.wait_for_ready()
    caller()
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (70, "BotFailed"), outcome.log
    assert "can no longer do its job" in outcome.message
    assert "sk-another-key-than-the-right-one" not in outcome.log + outcome.message


BLOCKS_START = """type("Wall", (Sayer,), {"process_frame": FrameProcessor.process_frame})()"""


def test_a_pipeline_that_never_starts(host: Start) -> None:
    """A processor that passes nothing on: Pipecat gives up on it after 20 s."""
    outcome = host(variant(SAYER=BLOCKS_START)).outcome()
    assert (outcome.code, outcome.reason) == (70, "BotFailed"), outcome.log
    assert "did not start in time" in outcome.message


@pytest.mark.parametrize(
    "hook",
    [
        "async def setup_pipeline_worker(worker): raise RuntimeError('hook broke')",
        "async def setup_worker_runner(runner): raise RuntimeError('hook broke')",
        "raise RuntimeError('hook broke')",
    ],
    ids=["pipeline", "runner", "import"],
)
def test_a_failing_hook(hook: str, host: Start, tmp_path: Path) -> None:
    """Pipecat only logs it."""
    (tmp_path / "hook.py").write_text(hook)
    outcome = host(PLAIN, PIPECAT_SETUP_FILES=str(tmp_path / "hook.py")).outcome()
    assert (outcome.code, outcome.reason) == (70, "BotFailed"), outcome.log
    assert "hook broke" in outcome.message


# SIGTERM at bad moments


def test_sigterm_during_imports(host: Start) -> None:
    hosted = host("import sys, time\nprint('importing', file=sys.stderr, flush=True)\ntime.sleep(60)\n")
    hosted.wait_for_log("importing")
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log


def test_sigterm_before_the_pipeline(host: Start) -> None:
    hosted = host(
        "import asyncio, sys\nasync def bot(args):\n"
        "    print('preparing', file=sys.stderr)\n    await asyncio.sleep(60)\n"
    )
    hosted.wait_for_log("preparing")
    assert (hosted.http("/livez"), hosted.http("/readyz")) == (200, 503)
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log


def test_sigterm_while_joining(host: Start) -> None:
    """Daily accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/room"
        hosted = host(PLAIN, DAILY_ROOM_URL=url, PIPECAT_TERMINATION_GRACE_SECONDS="5")
        hosted.wait_for_log("Joining")
        hosted.process.send_signal(signal.SIGTERM)
        outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log


@pytest.mark.parametrize(
    "stubborn",
    [
        "    import time\n    time.sleep(1)\n    print('blocking', file=sys.stderr)\n    time.sleep(600)\n",
        "    print('blocking', file=sys.stderr)\n    while True: pass\n",
        "    print('blocking', file=sys.stderr)\n    import asyncio\n    while True:\n"
        "        try: await asyncio.sleep(60)\n        except asyncio.CancelledError: pass\n",
    ],
    ids=["sleeps", "computes", "ignores cancellation"],
)
def test_a_bot_that_does_not_react(stubborn: str, host: Start) -> None:
    """The process ends within its grace all the same, its reason written."""
    hosted = host(variant(RUN=stubborn), PIPECAT_TERMINATION_GRACE_SECONDS="2")
    hosted.wait_for_log("blocking")
    hosted.process.send_signal(signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log


def test_code_after_the_call_that_never_ends(host: Start, caller: Join, daily: Daily, room: Room) -> None:
    """A bot that left the room but not its function, a thread of its own still running."""
    ending = (
        "    await runner.run()\n    import threading, time\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n    time.sleep(600)\n"
    )
    hosted = host(variant(RUN=ending), PIPECAT_TERMINATION_GRACE_SECONDS="3")
    hosted.wait_for_ready()
    user = caller()
    joined(user)
    hosted.wait_for_log("Users in the room: 1")
    user.terminate()
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "UserLeft"), outcome.log
    wait_until("an empty room", lambda: daily.present(room) == 0, 10)


def test_a_second_sigterm(host: Start) -> None:
    hosted = host(PLAIN)
    hosted.wait_for_ready()
    for _ in range(3):
        os.kill(hosted.process.pid, signal.SIGTERM)
    outcome = hosted.outcome()
    assert (outcome.code, outcome.reason) == (0, "Stopped"), outcome.log
