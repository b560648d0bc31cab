"""The namespaces that a node lives in, and processes in them."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipecat_local.processes import Component, ComponentFailed

_INIT: Final = Path(__file__).with_name("init.py")


class Inside(Component):
    """A process whose parent waits for it outside of its pid namespace: signals are for the process itself."""

    @property
    def inner_pid(self) -> int | None:
        """Of the process itself, as seen from outside."""
        return child_of(self.pid) if self.pid else None

    def _signal(self, pid: int, number: signal.Signals) -> None:
        super()._signal(child_of(pid) or pid, number)


class Namespaces:
    """Mount, network, pid, UTS and IPC namespaces; whatever runs in them ends with them."""

    def __init__(self, name: str, folder: Path, resolv_conf: Path) -> None:
        self._init = Inside("namespaces", folder / "namespaces.log")
        self._name = name
        self._resolv_conf = resolv_conf

    async def start(self) -> None:
        """Raises ComponentFailed with what went wrong."""
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
        init: list[str | Path] = [sys.executable, "-I", "-S", _INIT, self._name, self._resolv_conf]
        await self._init.start(["unshare", *namespaces, "--kill-child=KILL", "--", *init], wait_for_ready=True)

    async def stop(self) -> None:
        """Kill all that is in them: on return it has gone."""
        await self._init.stop(signal.SIGKILL)

    def check(self) -> None:
        """Raises ComponentFailed when they have ended."""
        self._init.check()

    @property
    def pid(self) -> int:
        """Of their first process, as seen from outside."""
        pid = self._init.inner_pid
        if pid is None:
            raise ComponentFailed(self._init.explain("has ended"))
        return pid

    @property
    def enter(self) -> tuple[str, ...]:
        """Put before a command: runs it in all of them."""
        return ("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--")

    @property
    def enter_network(self) -> tuple[str, ...]:
        """Put before a command: runs it in the network namespace only, so that no process stands between."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "--")

    async def run(self, *command: str | Path) -> str:
        """Run a command in them; answers what it printed.

        Raises:
            ComponentFailed: with what it said.
        """
        return await run([*self.enter, *command])


async def run(command: Sequence[str | Path], stdin: str = "") -> str:
    """Run a command; answers what it printed.

    Raises:
        ComponentFailed: with what it said.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    if process.returncode:
        raise ComponentFailed(f"{' '.join(map(str, command))} failed ({process.returncode}): {err.decode()}")
    return out.decode()


def child_of(pid: int) -> int | None:
    """Its first child, if it runs and has one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None
