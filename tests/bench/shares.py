"""Whose the CPU is: py-spy samples the operator, and each sample is given to the code that asked for the work.

That is the innermost frame of pipecat_operator, kopf or aiohttp: what they call (pydantic, json, asyncio, loguru) is
theirs. Samples of none of them are the event loop's: reading and writing sockets, TLS. Those in select() are left out:
on a busy machine the operator waits there for a processor, and looks as if it ran.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path

OWN, KOPF, HTTP, LOOP = "own code", "kopf", "aiohttp", "event loop and TLS"
RATE = 200
_OWNERS = {"/pipecat_operator/": OWN, "/kopf/": KOPF, "/aiohttp/": HTTP}
_LOOP = "/asyncio/base_events.py"
"""Frames above the event loop's own are of main() in every sample."""


class Shares:
    """Samples a process from entering to leaving. ``counts``: samples by owner; ``modules``: of our own by file."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid = pid
        self._file = folder / f"stacks-{pid}.txt"
        self.counts: Counter[str] = Counter()
        self.modules: Counter[str] = Counter()

    async def __aenter__(self) -> "Shares":
        command = ["record", "--pid", str(self._pid), "--rate", str(RATE), "--format", "raw", "--full-filenames"]
        self._process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("py-spy"),
            *(*command, "--nonblocking", "--output", self._file, "--duration", "100000"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        # As Ctrl-C: it then writes what it has.
        self._process.send_signal(2)
        await self._process.wait()
        for line in self._file.read_text().splitlines():
            stack, _, count = line.rpartition(" ")
            self._count(stack.split(";"), int(count))

    def share(self, owner: str) -> float:
        """0 to 1."""
        return self.counts[owner] / max(1, self.counts.total())

    def _count(self, frames: list[str], count: int) -> None:
        if ".select (" in frames[-1]:
            return
        for frame in reversed(frames):
            if _LOOP in frame and "_run_once" in frame:
                break
            for place, owner in _OWNERS.items():
                if place in frame:
                    self.counts[owner] += count
                    if owner == OWN:
                        self.modules[frame.partition(place)[2].partition(":")[0]] += count
                    return
        self.counts[LOOP] += count
