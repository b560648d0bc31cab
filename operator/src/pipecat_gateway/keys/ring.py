"""API keys: what each may, and which one a token is of. Pure."""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from pipecat_gateway.wire.requests import NAME
from pipecat_operator.settings import DNS_LABEL

Kind = Literal["public", "private"]
BotName = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]

PREFIXES: Final[Mapping[Kind, str]] = {"public": "pk_", "private": "sk_"}
"""Of the tokens, as Pipecat Cloud has them."""
RANDOM_BYTES: Final = 32
DEFAULT_TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class Key:
    """Who calls, and what it may, on its Bots and in its tenant.

    A public key starts sessions, and calls the bot of any; a private one lists, reads and stops them, too.
    """

    id: str
    kind: Kind
    bots: frozenset[str] | None
    """None: every Bot."""
    tenant: str
    rate: float | None
    """Starts a second."""
    max_sessions: int | None
    """Live at once."""
    may_own: bool
    """User tokens with is_owner."""
    may_record: bool

    def may_use(self, bot: str) -> bool:
        """Whether it is bound to that Bot."""
        return self.bots is None or bot in self.bots


ANONYMOUS: Final = Key("anonymous", "private", None, DEFAULT_TENANT, None, None, may_own=True, may_record=True)
"""Everybody, where there are no keys."""


def anyone(_token: str) -> Key:
    """What ``KeyRing.find`` is where there are no keys."""
    return ANONYMOUS


class Entry(BaseModel):
    """One entry of the Secret: a key as it is stored, by its id."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)

    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the token, as hex digits. Not a slow hash: nobody guesses 256 random bits."""
    kind: Kind
    bots: Annotated[tuple[BotName, ...], Field(min_length=1)] | None = None
    tenant: Annotated[str, StringConstraints(pattern=f"^{DNS_LABEL.pattern}$")] = DEFAULT_TENANT
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    max_sessions: Annotated[int, Field(ge=0)] | None = None
    owner: bool = False
    recording: bool = False

    def key(self, key_id: str) -> Key:
        """What it says the key of that id may."""
        return Key(
            id=key_id,
            kind=self.kind,
            bots=None if self.bots is None else frozenset(self.bots),
            tenant=self.tenant,
            rate=self.rate,
            max_sessions=self.max_sessions,
            may_own=self.owner,
            may_record=self.recording,
        )


@dataclass(frozen=True, slots=True)
class _Known:
    key: Key | None
    digest: bytes


_NOBODY: Final = _Known(None, secrets.token_bytes(sha256().digest_size))
"""Compared with where the id is unknown, so that it takes as long."""


class KeyRing:
    """The keys in force."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._known = {
            key_id: _Known(entry.key(key_id), bytes.fromhex(entry.hash)) for key_id, entry in entries.items()
        }

    def __len__(self) -> int:
        return len(self._known)

    def find(self, token: str) -> Key | None:
        """The key that this is the token of. It takes as long whether the id is known or not."""
        prefix, _, rest = token.partition("_")
        known = self._known.get(rest.partition("_")[0], _NOBODY)
        same = hmac.compare_digest(known.digest, _digest(token))
        # The prefix tells people how to treat a token: an entry can't make a public one private.
        return known.key if same and known.key and f"{prefix}_" == PREFIXES[known.key.kind] else None


def ring_of(entries: Mapping[str, bytes]) -> tuple[KeyRing, list[str]]:
    """The keys of a Secret's entries, and what is wrong with those that are left out."""
    good, wrong = {}, []
    for key_id, text in entries.items():
        try:
            good[checked_id(key_id)] = Entry.model_validate_json(text)
        except ValidationError as error:
            wrong += [f"entry {key_id}: {told}" for told in explained(error)]
        except ValueError as error:
            wrong.append(f"entry {key_id}: {error}")
    return KeyRing(good), wrong


def explained(error: ValidationError) -> list[str]:
    """What is wrong with an entry, by field and without any value: one may be a token."""
    told: dict[str, str] = {}
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            fields = ", ".join(known.alias or name for name, known in Entry.model_fields.items())
            told[field] = f"{field}: is no field of a key; there are {fields}"
        elif field:
            # The first is what is wrong; others may only follow from it.
            told.setdefault(field, f"{field}: {problem['msg']}")
        else:
            told[field] = "is not a JSON object"
    return list(told.values())


def checked_id(key_id: str) -> str:
    """A key's id.

    Raises:
        ValueError: it can't be one.
    """
    if not DNS_LABEL.fullmatch(key_id):
        raise ValueError("the id of a key is 1 to 63 of a-z, 0-9 and -, with no - at either end")
    return key_id


def new_token(key_id: str, kind: Kind) -> str:
    """A token, to be shown once."""
    return f"{PREFIXES[kind]}{key_id}_{secrets.token_urlsafe(RANDOM_BYTES)}"


def hash_of(token: str) -> str:
    """What is stored of a token."""
    return _digest(token).hex()


def _digest(token: str) -> bytes:
    # A header may hold any bytes, and aiohttp makes surrogates of those that are no UTF-8.
    return sha256(token.encode(errors="surrogatepass")).digest()
