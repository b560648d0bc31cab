"""API keys: who calls, and what they may."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Key:
    """Whoever has it starts sessions; one that is private also lists, reads and stops those of its tenant."""

    id: str
    kind: Literal["public", "private"]
    bots: frozenset[str] | None
    """None: every bot."""
    tenant: str
    rate: float | None
    """Starts a second; None: no bound."""
    max_sessions: int | None
    may_own: bool
    """Ask for user tokens that own the room."""
    may_record: bool

    def may_use(self, bot: str) -> bool:
        """Whether it is bound to that Bot."""
        return self.bots is None or bot in self.bots


ANONYMOUS: Final = Key("anonymous", "private", None, "default", None, None, may_own=True, may_record=True)
"""Everybody, where there are no keys."""
