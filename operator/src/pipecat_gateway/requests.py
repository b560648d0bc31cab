"""From a start request to a BotSession, and from a session to an answer. Pure."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pipecat_gateway.errors import Problem
from pipecat_operator import names
from pipecat_operator.api import BotSession
from pipecat_operator.conditions import EndReason, Phase

BODY_MAX: Final = 64 * 1024
"""Bytes of the bot's body as JSON; the operator's own bound."""
REQUEST_MAX: Final = 256 * 1024
"""Bytes of a whole request: text that is escaped as ASCII grows up to threefold."""
DEPTH_MAX: Final = 100
"""Levels of a request: whoever reads the session later must bear them."""

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
"""What a Bot may be called; anything else is no name, and must not get into a path."""
UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the API server gives as UIDs."""

OWN_ROOM: Final = ("url", "tokenSecretRef")
"""Of spec.room, but no Daily properties: they name a Secret to be sent to a URL, so HTTP callers don't get them."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """What a caller asked for."""

    bot: str
    body: Json | None = None
    room: Json = field(default_factory=dict)


def parse(text: bytes) -> Json:
    """The request as a JSON object; nothing at all is an empty one.

    Raises:
        Problem: it is something else.
    """
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
        # Python reads NaN and 1e999, which are no JSON.
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "bad_json", f"The request body is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Problem(400, "bad_json", "The request body must be a JSON object.")
    if too_deep(value):
        raise Problem(400, "bad_json", f"The request body is nested more than {DEPTH_MAX} levels deep.")
    return value


def too_deep(value: Json) -> bool:
    """Whether there are more than DEPTH_MAX levels."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [below for at in level for below in _inside(at)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def start_of(bot: str, request: Json) -> Start:
    """A start in the shape that Pipecat's runner and Pipecat Cloud share.

    Raises:
        Problem: what is asked for is not offered, or too large.
    """
    transport = request.get("transport", "daily")
    if transport != "daily":
        raise Problem(400, "unsupported_transport", f"transport {transport!r} is not offered; use 'daily'.")
    if request.get("createDailyRoom") is False:
        raise Problem(400, "room_required", "createDailyRoom is false, and nothing else is offered: leave it out.")
    body, room = request.get("body"), request.get("dailyRoomProperties") or {}
    if body is not None and not isinstance(body, dict):
        raise Problem(400, "bad_request", "body must be a JSON object.")
    if not isinstance(room, dict):
        raise Problem(400, "bad_request", "dailyRoomProperties must be a JSON object.")
    for word in OWN_ROOM:
        if word in room:
            raise Problem(400, "bad_request", f"dailyRoomProperties.{word} is no property of a Daily room.")
    return checked(Start(bot, body, room))


def start_bot_of(bot: str, request: Json) -> Start:
    """A start as in Pipecat's guide: the whole request is the bot's body.

    Raises:
        Problem: it is too large.
    """
    return checked(Start(bot, request or None))


def checked(start: Start) -> Start:
    """Raises Problem when there can be no such Bot, or the body is more than a session carries."""
    if not NAME.fullmatch(start.bot):
        raise Problem(404, "unknown_bot", f"There is no Bot {start.bot!r}.")
    size = len(json.dumps(start.body, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))
    if size > BODY_MAX:
        raise Problem(413, "body_too_large", f"body is {size} bytes; at most {BODY_MAX} are carried. Send a reference.")
    return start


def manifest(start: Start, namespace: str, name: str) -> Json:
    """The BotSession to make."""
    spec: Json = {"botRef": {"name": start.bot}}
    if start.body is not None:
        spec["body"] = start.body
    if start.room:
        spec["room"] = start.room
    return {
        "apiVersion": names.API_VERSION,
        "kind": "BotSession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def room_is_ready(session: BotSession) -> bool:
    """Room and token stand: a caller may go in."""
    return session.status.phase in (Phase.STARTING, Phase.RUNNING)


def bot_is_in(session: BotSession) -> bool:
    """The bot is in the room."""
    return session.status.phase is Phase.RUNNING


def ended_early(session: BotSession) -> Problem | None:
    """Why a session that was waited for will not come, if so."""
    status = session.status
    if status.phase not in (Phase.ENDING, Phase.SUCCEEDED, Phase.FAILED):
        return None
    reason = str(status.end_reason or "Unknown")
    code = 504 if status.end_reason is EndReason.START_TIMEOUT else 502
    return Problem(
        code, reason, f"The session ended before the bot was ready: {reason}. {status.message or ''}".strip()
    )


def described(session: BotSession) -> Json:
    """GET of a session."""
    status = session.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    shown = ("phase", "endReason", "message", "startedAt", "joinedAt", "endedAt")
    room = session.status.room
    return {
        "sessionId": session.metadata.uid,
        "bot": session.spec.bot_ref.name,
        "createdAt": session.metadata.creation_timestamp.isoformat(),
        "phase": "Pending",
        **({"dailyRoom": room.url} if room else {}),
        **{key: status[key] for key in shown if key in status},
    }
