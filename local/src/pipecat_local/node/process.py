"""Processes of a container: started apart from the node, ended together, gone when the node is."""

import asyncio
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from pipecat_local.node.spec import MARKER, Command
from pipecat_local.processes import tethered

MESSAGE_BYTES: Final = 4096
FALLBACK_BYTES: Final = 2048
FALLBACK_LINES: Final = 80


class Process:
    """A main process, the leader of a session of its own."""

    def __init__(self, command: Command, log: Path) -> None:
        """Starts it, its output going to ``log``.

        Raises:
            OSError: it can't be executed.
            ValueError: an argument or variable has a NUL byte.
        """
        _check_executable(command)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                tethered(command.argv),
                env=dict(command.env),
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Not reaped yet, so the group's number still is ours: whoever is left in it goes with its leader.
        os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        self._exit.set_result(code if code >= 0 else 128 - code)

    async def wait(self) -> int:
        """Until it has ended: its exit code, 128 + n for signal n."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """SIGTERM, as container runtimes do: to the main process alone."""
        if not self._exit.done():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to its whole process group."""
        if not self._exit.done():
            os.killpg(self.pid, signal.SIGKILL)


class Grace:
    """The time a container is given to end; once begun it only ever gets shorter."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._begun = asyncio.Event()
        self._moved = asyncio.Event()

    @property
    def begun(self) -> bool:
        """Whether it was asked to end."""
        return self._begun.is_set()

    def shorten(self, seconds: float) -> None:
        """At most that long from now."""
        at = time.monotonic() + seconds
        if self._at is None or at < self._at:
            self._at = at
            self._moved.set()
        self._begun.set()

    async def over(self) -> None:
        """Until it is over."""
        await self._begun.wait()
        while self._at is not None and (rest := self._at - time.monotonic()) > 0:
            self._moved.clear()
            try:
                async with asyncio.timeout(rest):
                    await self._moved.wait()
            except TimeoutError:
                continue

    async def enforce(self, process: Process) -> None:
        """SIGTERM when it begins, SIGKILL when it is over."""
        await self._begun.wait()
        process.terminate()
        await self.over()
        process.kill()


def kill_strays(folder: Path) -> list[int]:
    """Kill every process of the containers whose folder is ``folder`` or lies under it. Answers their pids.

    Reaches what left its process group or outlived its node.
    """
    markers = (f"{MARKER}={folder}\0".encode(), f"{MARKER}={folder}/".encode())
    killed = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            pidfd = os.pidfd_open(int(entry.name))
        except OSError:
            continue
        try:
            # Read after the descriptor was had: it can't be another process by now.
            environ = (entry / "environ").read_bytes()
            if any(marker in environ for marker in markers):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                killed.append(int(entry.name))
        except OSError:
            continue
        finally:
            os.close(pidfd)
    return killed


def termination_message(file: Path, log: Path, exit_code: int, fall_back_to_logs: bool) -> str:
    """The last 4096 bytes of the file; else, if asked for and it failed, of the log's end as kubelet cuts it."""
    content = _tail(file, MESSAGE_BYTES)
    if not content and fall_back_to_logs and exit_code:
        content = b"".join(_tail(log, FALLBACK_BYTES).splitlines(keepends=True)[-FALLBACK_LINES:])
    # A cut inside a character must not make it longer than the API server takes.
    return content.decode(errors="ignore")


def _tail(file: Path, size: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - size))
            return stream.read(size)
    except OSError:
        return b""


def _check_executable(command: Command) -> None:
    # The tether finds out too, but only once it runs: as an exit code, which would look like the program's own.
    if not command.cwd.is_dir():
        raise FileNotFoundError(f"no such working directory: {command.cwd}")
    program = command.argv[0]
    path = str(command.cwd / program) if "/" in program else program
    if shutil.which(path, path=command.env.get("PATH")) is None:
        raise FileNotFoundError(f'exec: "{program}": executable file not found in $PATH')
