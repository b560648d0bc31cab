"""Reading requests: JSON within bounds, and names that may get into a path. Pure."""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from pipecat_gateway.wire.errors import Problem

REQUEST_MAX: Final = 256 * 1024
"""Bytes of a whole request: text that is escaped as ASCII grows up to threefold."""
DEPTH_MAX: Final = 100
"""Levels of a request: whoever reads the session later must bear them."""

NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
"""What a Bot may be called; anything else is no name, and must not get into a path."""
UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the API server gives as UIDs."""

Json = dict[str, Any]


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
    except json.JSONDecodeError as error:
        raise Problem(400, "bad_json", f"The request body is not JSON: {error}.") from error
    except (ValueError, RecursionError) as error:
        said = (
            "The request body is not JSON in UTF-8, or holds NaN, a number of thousands of digits, or endless nesting."
        )
        raise Problem(400, "bad_json", said) from error
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
