"""Rooms and who may join them: Daily's rules, without I/O."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import jwt

NAME: Final = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
KNOWN: Final[dict[str, type | tuple[type, ...]]] = {
    "exp": (int, float),
    "nbf": (int, float),
    "eject_at_room_exp": bool,
    "eject_after_elapsed": (int, float),
    "max_participants": int,
    "enable_chat": bool,
    "enable_recording": str,
    "start_video_off": bool,
    "start_audio_off": bool,
    "enable_prejoin_ui": bool,
    "owner_only_broadcast": bool,
    "geo": str,
    "lang": str,
}


class Refused(Exception):
    """What Daily answers: HTTP status, ``error`` and ``info``."""

    def __init__(self, status: int, error: str, info: str, **more: Any) -> None:
        super().__init__(info)
        self.status = status
        self.body = {"error": error, "info": info, **more}


class JoinRefused(Exception):
    """Why somebody may not join; Daily's sentence."""


@dataclass(slots=True)
class Room:
    """One room. Times are Unix seconds."""

    name: str
    privacy: str
    properties: dict[str, Any]
    created_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def exp(self) -> float | None:
        """When it stops working."""
        return self.properties.get("exp")


@dataclass(frozen=True, slots=True)
class Admission:
    """Whom a token lets in, and until when."""

    owner: bool
    user_name: str | None
    user_id: str | None
    eject_at: float | None


class Domain:
    """One Daily domain: its rooms, and its key."""

    def __init__(self, name: str, api_key: str, base_url: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.id = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.daily.test"))
        self.api_key = api_key
        self.base_url = base_url
        self._clock = clock
        self.ahead_s = 0.0
        """How far its clock is ahead of everybody else's."""
        self._rooms: dict[str, Room] = {}
        self.made: list[str] = []
        """The name of every room ever made."""

    def clock(self) -> float:
        """The domain's own time, in Unix seconds."""
        return self._clock() + self.ahead_s

    def make(self, body: dict[str, Any]) -> Room:
        """POST /rooms."""
        name = body.get("name") or uuid.uuid4().hex[:20]
        if not isinstance(name, str) or not NAME.match(name):
            raise Refused(400, "invalid-request-error", "name may hold only A-Z, a-z, 0-9, - and _, at most 128")
        privacy, properties = body.get("privacy", "public"), body.get("properties") or {}
        if privacy not in ("public", "private"):
            raise Refused(400, "invalid-request-error", "privacy must be 'public' or 'private'")
        self._check(properties)
        if self.get(name, or_none=True):
            raise Refused(400, "invalid-request-error", f"a room named {name} already exists")
        self._rooms[name] = room = Room(name, privacy, dict(properties), self.clock())
        self.made.append(name)
        return room

    def get(self, name: str, or_none: bool = False) -> Room | None:
        """GET /rooms/:name; an expired room is none."""
        room = self._rooms.get(name)
        if room and not self.expired(room):
            return room
        if or_none:
            return None
        raise Refused(404, "not-found", f"room {name} not found")

    def delete(self, name: str) -> None:
        """DELETE /rooms/:name. An expired one answers 404 and ``deleted``, as the real one does."""
        room = self._rooms.pop(name, None)
        if room is None:
            raise Refused(404, "not-found", f"room {name} not found")
        if self.expired(room):
            raise Refused(404, "not-found", f"room {name} not found", deleted=True, name=name)

    def rooms(self) -> list[Room]:
        """Newest first, expired ones left out."""
        there = [room for room in self._rooms.values() if not self.expired(room)]
        return sorted(there, key=lambda room: room.created_at, reverse=True)

    def expired(self, room: Room) -> bool:
        """Past its exp."""
        return room.exp is not None and self.clock() >= room.exp

    def json(self, room: Room) -> dict[str, Any]:
        """As the REST API shows a room."""
        created = datetime.fromtimestamp(room.created_at, UTC).isoformat(timespec="milliseconds")
        return {
            "id": room.id,
            "name": room.name,
            "api_created": True,
            "privacy": room.privacy,
            "url": f"{self.base_url}/{room.name}",
            "created_at": created.replace("+00:00", "Z"),
            "config": room.properties,
        }

    def mint(self, properties: dict[str, Any]) -> str:
        """POST /meeting-tokens."""
        short = {
            "r": properties.get("room_name"),
            "o": properties.get("is_owner"),
            "u": properties.get("user_name"),
            "ud": properties.get("user_id"),
            "exp": properties.get("exp"),
            "nbf": properties.get("nbf"),
            "ejt": properties.get("eject_at_token_exp"),
            "eje": properties.get("eject_after_elapsed"),
            "d": self.id,
            "iat": int(self.clock()),
        }
        return jwt.encode({k: v for k, v in short.items() if v is not None}, self.api_key, algorithm="HS256")

    def claims(self, token: str) -> dict[str, Any]:
        """What a token of this domain says.

        Raises:
            JoinRefused: it is not one, or not now.
        """
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self.api_key,
                algorithms=["HS256"],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as error:
            raise JoinRefused("invalid-token: the meeting token is not valid") from error
        if claims.get("d") != self.id:
            raise JoinRefused("invalid-token: the meeting token is of another domain")
        now = self.clock()
        if "exp" in claims and now >= claims["exp"]:
            raise JoinRefused("exp-token: the meeting token has expired")
        if "nbf" in claims and now < claims["nbf"]:
            raise JoinRefused("nbf-token: the meeting token is not valid yet")
        return claims

    def admit(self, name: str, token: str | None, present: int) -> Admission:
        """Whether, and as whom, somebody may join.

        Raises:
            JoinRefused: with Daily's sentence.
        """
        room = self._rooms.get(name)
        if room is None:
            raise JoinRefused("no-room: the meeting you're trying to join does not exist")
        if self.expired(room):
            raise JoinRefused("exp-room: the meeting you're trying to join has ended")
        if self.clock() < room.properties.get("nbf", 0):
            raise JoinRefused("nbf-room: the meeting has not begun yet")
        claims = self.claims(token) if token else {}
        if claims and claims.get("r") not in (None, name):
            raise JoinRefused("invalid-token: the meeting token is of another room")
        if room.privacy == "private" and not claims:
            raise JoinRefused("not-allowed: you are not allowed to join this meeting")
        if present >= room.properties.get("max_participants", 200):
            raise JoinRefused("meeting-full: the meeting is full")
        now = self.clock()
        ends = [
            room.exp if room.properties.get("eject_at_room_exp") else None,
            claims.get("exp") if claims.get("ejt") else None,
            now + claims["eje"] if "eje" in claims else None,
            now + room.properties["eject_after_elapsed"] if "eject_after_elapsed" in room.properties else None,
        ]
        eject_at = min((end for end in ends if end is not None), default=None)
        return Admission(bool(claims.get("o")), claims.get("u"), claims.get("ud"), eject_at)

    def _check(self, properties: dict[str, Any]) -> None:
        for name, value in properties.items():
            kind = KNOWN.get(name)
            if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
                raise Refused(400, "invalid-request-error", f"property '{name}' has a wrong type")
        if "exp" in properties and properties["exp"] <= self.clock():
            raise Refused(400, "invalid-request-error", "exp must be in the future")
