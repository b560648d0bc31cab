"""Child processes: own log file, ended with their parent, readiness told in one line of JSON."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

READY_S: Final = 60.0
STOP_S: Final = 15.0
LOG_LINES: Final = 15

_TETHER: Final = Path(__file__).with_name("tether.py")


class ComponentFailed(Exception):
    """A component did not start or ended; the text has its last log lines."""


def tethered(command: Sequence[str | Path]) -> list[str]:
    """That command, made to end when the thread that started it is gone."""
    return [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *map(str, command)]


class Component:
    """One child process."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.ready: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """While it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(
        self, command: Sequence[str | Path], env: Mapping[str, str] | None = None, wait_for_ready: bool = False
    ) -> None:
        """Run it. ``wait_for_ready``: until it has printed its line of JSON on standard output."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tethered(command),
                env=dict(env) if env is not None else None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if wait_for_ready else log,
                stderr=log,
                start_new_session=True,
            )
        if wait_for_ready:
            await self._wait_for_ready()

    async def _wait_for_ready(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            raise ComponentFailed(self.explain("was not started with a pipe"))
        try:
            async with asyncio.timeout(READY_S):
                line = await process.stdout.readline()
            self.ready = json.loads(line)
        except (TimeoutError, ValueError) as error:
            await self.stop()
            raise ComponentFailed(self.explain("did not get ready")) from error

    def check(self) -> None:
        """Raises ComponentFailed when it has ended."""
        if self._process and self._process.returncode is not None:
            raise ComponentFailed(self.explain(f"ended with exit code {self._process.returncode}"))

    def explain(self, what: str) -> str:
        """What happened, and its last log lines."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:] if self.log.exists() else []
        return "\n".join([f"{self.name} {what}. The end of {self.log}:", *(f"  {line}" for line in lines)])

    async def stop(self, number: signal.Signals = signal.SIGTERM, grace_s: float = STOP_S) -> int | None:
        """Ask it to end, insist after a while; answers its exit code."""
        process = self._process
        if process is None or process.returncode is not None:
            return process.returncode if process else None
        self._signal(process.pid, number)
        try:
            async with asyncio.timeout(grace_s):
                return await process.wait()
        except TimeoutError:
            self._signal(process.pid, signal.SIGKILL)
            return await process.wait()

    def _signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def until(what: str, condition: Callable[[], Awaitable[T]], timeout_s: float, every_s: float = 0.05) -> T:
    """The first true answer of ``condition``. Bounded.

    Raises:
        TimeoutError: saying what was waited for.
    """
    began = time.monotonic()
    while True:
        if answer := await condition():
            return answer
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"waited {timeout_s:.0f} s in vain for {what}")
        await asyncio.sleep(every_s)


def wait_until(what: str, condition: Callable[[], T], timeout_s: float, every_s: float = 0.05) -> T:
    """``until`` where there is no event loop.

    Raises:
        TimeoutError: saying what was waited for.
    """
    began = time.monotonic()
    while True:
        if answer := condition():
            return answer
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(every_s)
