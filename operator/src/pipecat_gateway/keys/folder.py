"""The API keys from a mounted Secret, read again whenever it changes."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from loguru import logger

from pipecat_gateway.keys.ring import Key, KeyRing, ring_of

POLL_S: Final = 2.0
"""Between two looks; the kubelet itself takes up to about a minute to bring a change."""
SWAPPED: Final = "..data"
"""The link that Kubernetes turns, once all of a change is there."""

Identity = tuple[Path, tuple[tuple[str, int, int, int], ...]]


class KeyFolder:
    """The keys of a folder: one file a key, named as its id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ring = KeyRing({})
        self._seen: Identity | None = None
        self._trouble: str | None = None

    def find(self, token: str) -> Key | None:
        """The key that this is the token of."""
        return self._ring.find(token)

    def refresh(self) -> None:
        """Read it if it changed. What can't be read leaves all as it was."""
        try:
            seen = _identity(self._folder)
            if seen == self._seen:
                return
            entries = {name: (seen[0] / name).read_bytes() for name, *_ in seen[1]}
        except OSError as error:
            self._complain(f"The API keys can't be read, so those known stay in force: {error}")
            return
        self._seen, self._trouble = seen, None
        self._ring, wrong = ring_of(entries)
        for told in wrong:
            logger.warning("An API key is left out: {}", told)
        if self._ring:
            logger.info("API keys in force: {}", len(self._ring))
        else:
            logger.warning("There is no API key yet: every request is answered 401")

    async def follow(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look again and again, until cancelled."""
        while True:
            await sleep(POLL_S)
            await asyncio.to_thread(self.refresh)

    def _complain(self, trouble: str) -> None:
        """Once: it is tried again every few seconds."""
        if trouble != self._trouble:
            logger.warning("{}", trouble)
        self._trouble = trouble


def _identity(folder: Path) -> Identity:
    """Where the files really are, and which they are: the same only as long as nothing changed."""
    link = folder / SWAPPED
    # One and the same folder for all files, though the link be turned meanwhile.
    real = link.resolve(strict=True) if link.is_symlink() else folder
    files = []
    with os.scandir(real) as found:
        for file in found:
            if not file.name.startswith(".") and file.is_file():
                told = file.stat()
                files.append((file.name, told.st_ino, told.st_mtime_ns, told.st_size))
    return real, tuple(sorted(files))
