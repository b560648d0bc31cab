"""A BotSession as far as the gateway needs it, and what its state means to who waits for it. Pure.

Bodies are left out: they are large, and none of the gateway's business.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipecat_gateway.keys.ring import ANONYMOUS, DEFAULT_TENANT, Key
from pipecat_gateway.sessions.start import ANNOTATION_FINGERPRINT, LABEL_TENANT
from pipecat_gateway.wire.errors import AtCapacity, Problem
from pipecat_operator.api import BotSession
from pipecat_operator.conditions import EndReason, Phase
from pipecat_operator.daily import refusal

_OVER: Final = (Phase.ENDING, Phase.SUCCEEDED, Phase.FAILED)
_DAILY_SAYS_NO: Final = tuple(refusal(operation, 400) for operation in ("create_room", "create_token"))
"""How the operator tells of properties that Daily knows better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session."""

    uid: str
    name: str
    bot: str
    created_at: datetime
    tenant: str = DEFAULT_TENANT
    """Of the API key that it was made with; the default one's, too, are those that no gateway made."""
    fingerprint: str | None = None
    token_secret: str | None = None
    """Where the bot's token for a room of one's own is."""
    phase: Phase = Phase.PENDING
    room: str | None = None
    started_at: datetime | None = None
    joined_at: datetime | None = None
    ended_at: datetime | None = None
    pod_ip: str | None = None
    end_reason: str | None = None
    message: str | None = None

    @property
    def finished(self) -> bool:
        """Nothing of it changes any more."""
        return self.phase.finished


def view(item: dict[str, Any]) -> Session:
    """Of the object.

    Raises:
        ValidationError: it can't be read.
    """
    spec = {key: value for key, value in item.get("spec", {}).items() if key != "body"}
    whole = BotSession.model_validate({**item, "spec": spec})
    meta, status, said = item["metadata"], whole.status, item.get("status") or {}
    own = whole.spec.room.token_secret_ref
    reason = said.get("endReason")
    return Session(
        uid=whole.metadata.uid,
        name=whole.metadata.name,
        bot=whole.spec.bot_ref.name,
        created_at=whole.metadata.creation_timestamp,
        tenant=(meta.get("labels") or {}).get(LABEL_TENANT, DEFAULT_TENANT),
        fingerprint=(meta.get("annotations") or {}).get(ANNOTATION_FINGERPRINT),
        token_secret=own.name if own else None,
        phase=status.phase or Phase.PENDING,
        room=status.room.url if status.room else None,
        started_at=status.started_at,
        joined_at=status.joined_at,
        ended_at=status.ended_at,
        pod_ip=status.pod_ip,
        # As it stands: an operator newer than this may know more reasons.
        end_reason=reason if isinstance(reason, str) else None,
        message=status.message,
    )


def visible(session: Session, key: Key) -> bool:
    """Whether it is any of that key's business."""
    if key is ANONYMOUS:
        return True
    return session.tenant == key.tenant and key.may_use(session.bot)


def room_is_ready(session: Session) -> bool:
    """Room and token stand: a caller may go in."""
    return session.phase in (Phase.STARTING, Phase.RUNNING)


def bot_is_in(session: Session) -> bool:
    """The bot is in the room."""
    return session.phase is Phase.RUNNING


def room_was_ready(session: Session) -> bool:
    """Who asked first was answered, whatever came after."""
    return session.started_at is not None


def bot_was_in(session: Session) -> bool:
    """Who waited for the bot was answered, whatever came after."""
    return session.joined_at is not None


def ended_early(session: Session) -> Problem | None:
    """Why a session that was waited for will not come, if so."""
    if session.phase not in _OVER:
        return None
    reason, message = session.end_reason or "Unknown", session.message or ""
    if reason == EndReason.CAPACITY_REACHED:
        return AtCapacity(message)
    if reason == EndReason.ROOM_FAILED and message.startswith(_DAILY_SAYS_NO):
        return Problem(400, "refused", message)
    said = f"The session ended before the bot was ready: {reason}. {message}".strip()
    return Problem(504 if reason == EndReason.START_TIMEOUT else 502, reason, said)
