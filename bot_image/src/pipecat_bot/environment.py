"""What one session is told: the environment, or the command line for trying a bot by hand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BadEnvironment(Exception):
    """Everything that is missing or wrong, in one message; no values, they may be tokens."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Durations are seconds; None: no such limit."""

    room_url: str
    token: str | None
    session_id: str | None = None
    body: Any = None
    max_duration_s: float | None = None
    join_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    grace_s: float = 30.0
    termination_message: Path | None = None
    host: str = "127.0.0.1"


_LIMITS = {
    "max_duration_s": "PIPECAT_MAX_DURATION_SECONDS",
    "join_timeout_s": "PIPECAT_JOIN_TIMEOUT_SECONDS",
    "idle_timeout_s": "PIPECAT_IDLE_TIMEOUT_SECONDS",
    "grace_s": "PIPECAT_TERMINATION_GRACE_SECONDS",
}


def read(environ: Mapping[str, str], room_url: str | None = None, token: str | None = None) -> Session:
    """The session of this environment; ``room_url`` and ``token`` are the command line's and win.

    Raises:
        BadEnvironment: naming all that is wrong.
    """
    wrong: list[str] = []
    url = room_url or environ.get("DAILY_ROOM_URL", "")
    if not url.startswith(("http://", "https://")):
        wrong.append("DAILY_ROOM_URL: set it to the room's URL (or use -u URL)")
    limits = {}
    for field, name in _LIMITS.items():
        if text := environ.get(name):
            try:
                limits[field] = float(text)
            except ValueError:
                wrong.append(f"{name}: a number of seconds is wanted")
    body = None
    if file := environ.get("PIPECAT_SESSION_BODY_FILE"):
        try:
            body = json.loads(Path(file).read_text())
        except (OSError, ValueError) as error:
            wrong.append(f"PIPECAT_SESSION_BODY_FILE: no JSON can be read from it ({type(error).__name__})")
    if wrong:
        raise BadEnvironment("The session's environment is wrong. " + "; ".join(wrong) + ".")
    message = environ.get("PIPECAT_TERMINATION_MESSAGE_PATH")
    return Session(
        room_url=url,
        token=token or environ.get("DAILY_ROOM_TOKEN") or None,
        session_id=environ.get("PIPECAT_SESSION_ID"),
        body=body,
        termination_message=Path(message) if message else None,
        host=environ.get("POD_IP") or "127.0.0.1",
        **limits,
    )
