"""Keeps secrets out of the logs: everything written to standard output and error passes here.

At the streams, not at a logger: Pipecat, the bot and a traceback each write in their own way.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO, cast

_SECRET_NAMES: Final = ("_TOKEN", "_KEY", "_SECRET", "_PASSWORD")
_SHORTEST: Final = 8
"""Shorter values are words, not secrets: hiding them would garble the log."""


def secrets_of(env: Mapping[str, str]) -> set[str]:
    """Values of the variables whose names say that they are secrets."""
    return {value for name, value in env.items() if name.endswith(_SECRET_NAMES) and len(value) >= _SHORTEST}


def redactor(secrets: set[str]) -> Callable[[str], str]:
    """A function that puts ``***`` in place of each secret."""
    longest_first = sorted(secrets, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in longest_first:
            text = text.replace(secret, "***")
        return text

    return redact


class _RedactedStream:
    def __init__(self, stream: TextIO, redact: Callable[[str], str]) -> None:
        self._stream = stream
        self._redact = redact

    def write(self, text: str) -> int:
        self._stream.write(self._redact(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_output(redact: Callable[[str], str]) -> None:
    """From now on, for whoever asks for ``sys.stdout`` and ``sys.stderr``."""
    sys.stdout = cast(TextIO, _RedactedStream(sys.stdout, redact))
    sys.stderr = cast(TextIO, _RedactedStream(sys.stderr, redact))
