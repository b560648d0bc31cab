"""The one way out of the process: why it ended is written down first, whatever the bot's code is doing."""

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pipecat_bot.ending import Ending


class LastWords:
    """Writes the termination message: the first ending counts."""

    def __init__(self, path: Path | None, redact: Callable[[str], str]) -> None:
        self._path = path
        self._redact = redact
        self._ending: Ending | None = None

    def say(self, ending: Ending) -> Ending:
        """Answers the ending that counts."""
        if self._ending is None:
            self._ending = Ending(ending.reason, self._redact(ending.message))
            if self._path:
                # Its reader may be gone or its disk full: the exit code still tells.
                with contextlib.suppress(OSError):
                    self._path.write_text(self._ending.termination_message(), encoding="utf-8")
        return self._ending

    def exit_now(self, ending: Ending) -> None:
        """End the process without asking anybody."""
        code = self.say(ending).exit_code
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


class Watchdog:
    """A thread that ends the process at its last moment, when the main thread no longer does.

    Lock-free, because a signal handler sets it.
    """

    def __init__(self, last_words: LastWords) -> None:
        self._last_words = last_words
        self._set: tuple[float, Ending] | None = None
        self._read, self._write = os.pipe()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def no_later_than(self, at: float, ending: Ending) -> None:
        """Set the last moment (of time.monotonic()), unless an earlier one is set."""
        if self._set is None or at < self._set[0]:
            self._set = (at, ending)
            os.write(self._write, b".")

    def _watch(self) -> None:
        while True:
            current = self._set
            timeout = None if current is None else max(0.0, current[0] - time.monotonic())
            if select.select([self._read], [], [], timeout)[0]:
                os.read(self._read, 1024)
            elif current is not None and current is self._set:
                self._last_words.exit_now(current[1])
