"""Operators as processes that start in no time."""

import asyncio
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any, Self

from pipecat_local.processes import tethered, until

ZYGOTE = Path(__file__).with_name("zygote.py")
END_S = 20.0


class Operator:
    """One operator process, forked by the zygote: not a child of ours."""

    def __init__(self, pid: int, log_file: Path) -> None:
        self.pid = pid
        self.log_file = log_file
        self._descriptor = os.pidfd_open(pid)

    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether the process is over."""
        return bool(select.select([self._descriptor], [], [], 0)[0])

    @property
    def frozen(self) -> bool:
        """Stopped by SIGSTOP."""
        return not self.ended and "\nState:\tT" in Path(f"/proc/{self.pid}/status").read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it, unless it has ended."""
        if not self.ended:
            signal.pidfd_send_signal(self._descriptor, number)

    def end(self) -> None:
        """As kubelet asks it to."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """As by kill -9; over on return."""
        self.signal(signal.SIGKILL)
        select.select([self._descriptor], [], [], END_S)

    async def until_ended(self, wait_s: float = END_S) -> None:
        """Bounded."""

        async def over() -> bool:
            return self.ended

        await until(f"the operator {self.pid} to end", over, wait_s)

    def close(self) -> None:
        """Let go of it; it has ended."""
        os.close(self._descriptor)


class Zygote:
    """Forks operators; an async context manager."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, ZYGOTE]), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self._turn = asyncio.Lock()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Its operators end with it."""
        if self._process.stdin:
            self._process.stdin.close()
        await self._process.wait()

    async def fork(self, env: dict[str, str], log: Path, freeze_before: tuple[str, str] | None = None) -> Operator:
        """One more operator. ``freeze_before``: method and part of the path of the call before which it freezes."""
        wanted: dict[str, Any] = {"env": env, "log": str(log), "freeze_before": freeze_before}
        async with self._turn:
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write((json.dumps(wanted) + "\n").encode())
            answer = json.loads(await self._process.stdout.readline())
        return Operator(answer["pid"], log)
