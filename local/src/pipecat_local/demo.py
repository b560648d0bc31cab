"""From `kubectl apply` to a heard answer, told step by step."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dotenv

from pipecat_local import callers
from pipecat_local.observer import Sessions, sessions, until_nothing_is_left
from pipecat_local.processes import Component
from pipecat_local.stack import ROOT, Services, Stack
from pipecat_operator import names
from pipecat_operator.conditions import EndReason, Phase

EXAMPLES: Final = ROOT / "examples"
NAMESPACE: Final = "default"
SESSION: Final = "demo"
IN_THE_ROOM_S: Final = 60.0
END_S: Final = 60.0
GONE_S: Final = 90.0
A_PERSON_S: Final = 900.0

REQUIRED: Final = ("DAILY_API_KEY", "OPENAI_API_KEY")
ELEVENLABS: Final = ("ELEVENLABS_API_KEY", "ELEVENLABS_VOICE_ID")
DAILY_API_URL: Final = "https://api.daily.co/v1"


class DemoFailed(Exception):
    """What went wrong, and the last log lines of whoever it concerns."""


def say(line: str = "") -> None:
    """One line for the reader."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def real_services(environ: Mapping[str, str]) -> Services:
    """The real ones, with the keys of the environment or of .env.

    Raises:
        DemoFailed: naming the keys that are missing.
    """
    given = {**{k: v for k, v in dotenv.dotenv_values(ROOT / ".env").items() if v}, **environ}
    missing = [name for name in REQUIRED if not given.get(name)]
    missing += [name for name in ELEVENLABS if not given.get(name)] if any(given.get(n) for n in ELEVENLABS) else []
    if missing:
        raise DemoFailed(f"REAL=1 needs {', '.join(missing)}: set it in the environment or in .env.")
    keys = {"OPENAI_API_KEY": given["OPENAI_API_KEY"]}
    if given.get("ELEVENLABS_API_KEY"):
        keys |= {"BOT_VOICE": "elevenlabs", **{name: given[name] for name in ELEVENLABS}}
    return Services(given["DAILY_API_KEY"], given.get("DAILY_API_URL") or DAILY_API_URL, keys, real=True)


async def demo(folder: Path, real: bool, seed: int) -> None:
    """All of it.

    Raises:
        DemoFailed, ComponentFailed, MissingBinary: with what to look at.
    """
    began = time.monotonic()
    services = real_services(os.environ) if real else None
    if services:
        say("This uses your Daily and OpenAI accounts, and costs money for as long as the call lasts.")
    shutil.rmtree(folder, ignore_errors=True)
    say("Starting")
    async with Stack(folder, services, say=say) as stack, sessions(stack.cluster, NAMESPACE) as watched:
        await asyncio.to_thread(stack.put_bot_keys, NAMESPACE)
        await _Demo(stack, watched, folder, seed).run()
        say("\nStopping")
    say(f"\nThe demo worked, in {time.monotonic() - began:.0f} s.")


class _Demo:
    """One run of it, on a stack that is up."""

    def __init__(self, stack: Stack, watched: Sessions, folder: Path, seed: int) -> None:
        self._stack = stack
        self._sessions = watched
        self._folder = folder
        self._seed = seed
        assert stack.services  # noqa: S101 - started
        self._services = stack.services

    async def run(self) -> None:
        say()
        for example in ("bot.yaml", "session.yaml"):
            await self._show("apply", "-f", EXAMPLES / example)
        session = await self._reach(Phase.STARTING, ("operator",))
        say(f"  {self._sessions.seconds(SESSION, Phase.STARTING):5.2f} s  session -> room, tokens, Secret and Job")
        session = await self._reach(Phase.RUNNING, ("node", "operator"))
        say(f"  {self._sessions.seconds(SESSION, Phase.RUNNING):5.2f} s  session -> bot in the room")
        say()
        if self._services.real:
            await self._call_a_person(session)
        else:
            await self._call(session)
        session = await self._reach(Phase.SUCCEEDED, ("node", "operator"), END_S)
        say()
        # The Job's own controller comes to the same end a moment later.
        await self._kubectl("wait", f"job/{session['status']['jobName']}", "--for=condition=Complete", "--timeout=30s")
        await self._show("get", "bots,botsessions,jobs,pods")
        status = session["status"]
        say(f"The session {status['phase']}, for the reason {status['endReason']}: {status.get('message', '')}")
        if status["endReason"] != EndReason.USER_LEFT:
            raise self._failed(f"It should have ended UserLeft, not {status['endReason']}.", ("node", "operator"))
        say()
        await self._clean_up(session)

    async def _reach(self, phase: Phase, concerned: tuple[str, ...], timeout_s: float = IN_THE_ROOM_S) -> Any:
        try:
            session = await self._sessions.until(SESSION, phase, timeout_s=timeout_s)
        except TimeoutError as error:
            raise self._failed(str(error), concerned) from error
        status = session["status"]
        if status["phase"] != phase and Phase(status["phase"]).finished:
            what = f"The session {status['phase']}, for the reason {status['endReason']}: {status.get('message')}"
            raise self._failed(what, concerned)
        return session

    async def _call(self, session: Any) -> None:
        """The caller's part; prints the transcript."""
        token = await asyncio.to_thread(callers.user_token, self._stack.cluster, session)
        recording, log = self._folder / "call.wav", self._folder / "caller.log"
        say(f"A caller joins with the user's token (seed {self._seed} draws the questions)")
        options = ("--seed", str(self._seed), "--questions", "2", "--record", str(recording))
        result: dict[str, Any] = {}
        try:
            async for event in callers.call(session["status"]["room"]["url"], token, log, *options):
                self._tell(event)
                result = event
        except TimeoutError as error:
            raise self._failed("The call did not end.", ("caller", "openai", "daily")) from error
        if not result.get("ok"):
            raise self._failed(f"The call went wrong: {result.get('why')}", ("caller", "openai", "daily"))
        say(f"  every answer was recognised from its sound, and was the right one: {recording.relative_to(ROOT)}")

    @staticmethod
    def _tell(event: dict[str, Any]) -> None:
        match event:
            case {"event": "greeting", "heard": heard}:
                say(f"  bot     {heard or '(nothing was heard)'}")
            case {"event": "turn", "question": question, "heard": heard, "latency_s": latency}:
                after = f"   [{latency:.2f} s after the end of the question]" if latency is not None else ""
                say(f"  caller  {question}")
                say(f"  bot     {heard or '(nothing was heard)'}{after}")

    async def _call_a_person(self, session: Any) -> None:
        token = await asyncio.to_thread(callers.user_token, self._stack.cluster, session)
        say("Open this link, allow the microphone, and talk to the bot; leave the call to end the session:")
        say(f"\n  {session['status']['room']['url']}?t={token}\n")
        try:
            await self._sessions.until(SESSION, Phase.SUCCEEDED, timeout_s=A_PERSON_S)
        except TimeoutError as error:
            raise self._failed(str(error), ("node", "operator")) from error

    async def _clean_up(self, session: Any) -> None:
        await self._show("delete", "botsession", SESSION)
        began = time.monotonic()
        try:
            await until_nothing_is_left(self._stack.cluster, self._services, session, GONE_S)
        except TimeoutError as error:
            raise self._failed(str(error), ("operator",)) from error
        say(f"  {time.monotonic() - began:5.1f} s  no room, Job, Secret, pod or process is left")

    async def _show(self, *arguments: str | Path) -> None:
        shown = " ".join(str(word.relative_to(ROOT)) if isinstance(word, Path) else word for word in arguments)
        say(f"$ kubectl {shown}")
        output = await self._kubectl(*arguments)
        say("\n".join(f"  {line}" for line in output.rstrip().splitlines()))

    async def _kubectl(self, *arguments: str | Path) -> str:
        try:
            return await asyncio.to_thread(self._stack.cluster.kubectl, *arguments)
        except subprocess.CalledProcessError as error:
            raise self._failed(f"kubectl failed: {error.stderr}", ("operator", "node")) from error

    def _failed(self, what: str, concerned: tuple[str, ...]) -> DemoFailed:
        logs = [self._folder / f"{name}.log" for name in concerned]
        logs += sorted((self._folder / "node").rglob(f"{names.CONTAINER}.log"))
        told = [Component(log.stem, log).explain("wrote") for log in logs if log.exists() and log.stat().st_size]
        return DemoFailed("\n".join([what, *told]))
