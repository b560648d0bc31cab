"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07). Pure.

Nothing is stored but the session itself: its name follows from API key and idempotency key, so that of any number of
tries, wherever they arrive, one makes it and the others meet it. It is remembered as long as the session is there.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from pipecat_gateway.wire.errors import Problem

HEADER: Final = "Idempotency-Key"
MAX: Final = 255
"""Characters of a key."""
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"(?: *;[!-~ ]*)?')
"""A String of Structured Fields (RFC 9651), with parameters, which mean nothing here."""


def key_of(headers: Sequence[str]) -> str | None:
    """The key that a request brings, if it does.

    Raises:
        Problem: it is malformed.
    """
    if not headers:
        return None
    match = _STRING.fullmatch(headers[0].strip(" ")) if len(headers) == 1 else None
    key = re.sub(r"\\(.)", r"\1", match[1]) if match else ""
    if not 0 < len(key) <= MAX:
        said = f'{HEADER} must be one text in double quotes, of 1 to {MAX} characters, such as "8e03978e-40d5-43dd".'
        raise Problem(400, "bad_idempotency_key", said)
    return key


def name_of(tenant: str, api_key: str, key: str) -> str:
    """The BotSession's name."""
    return f"gw-{_digest([tenant, api_key, key])[:40]}"


def fingerprint_of(key: str, asked: Any) -> str:
    """Of what was asked for: the same key with another is refused.

    Whoever reads it knows all of that but a token: ``key``, which is stored nowhere, keeps guesses from being tried.
    """
    return _digest([key, asked])


def mismatch() -> Problem:
    """The key was used for something else."""
    said = f"This {HEADER} came with another request before. Send a new key with a new request."
    return Problem(422, "idempotency_key_reused", said)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
