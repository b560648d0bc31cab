"""Daily meeting tokens, signed here: HS256 with the domain's API key, as Daily documents self-signed tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import jwt

OURS: Final = frozenset({"room_name", "exp", "nbf", "eject_at_token_exp", "eject_after_elapsed"})
"""Which room, and for how long: nobody else's to say."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Who may join which room, until when."""

    room: str
    expires_at: datetime
    owner: bool
    user_name: str | None = None
    user_id: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """By Daily's names, over those above. Daily says which there are, so such a token is Daily's to make."""

    def properties(self) -> dict[str, object]:
        """As POST /meeting-tokens takes them."""
        wanted = {
            "room_name": self.room,
            "exp": int(self.expires_at.timestamp()),
            "is_owner": self.owner,
            "user_name": self.user_name,
            "user_id": self.user_id,
        }
        more = {name: value for name, value in self.more.items() if name not in OURS}
        return {name: value for name, value in (wanted | more).items() if value is not None}


def sign(request: TokenRequest, domain_id: str, key: str, now: datetime) -> str:
    """The token, with Daily's short claim names (room r, domain d, owner o, user name u, user id ud)."""
    claims = {
        "r": request.room,
        "d": domain_id,
        "iat": int(now.timestamp()),
        "exp": int(request.expires_at.timestamp()),
        "o": request.owner,
        "u": request.user_name,
        "ud": request.user_id,
    }
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm="HS256")
