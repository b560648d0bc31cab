"""What a caller is told when something fails: an HTTP status, and a body with string ``error`` and ``code``."""

import json
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from pydantic import ValidationError

from pipecat_operator.kube import AlreadyExists, ApiError, Conflict, NotFound, OtherObject, Refused

RETRY_AFTER_S: Final = 5
"""When somebody may have hung up."""
DOCUMENTED: Final = frozenset({401, 404, 429, 500})
"""Statuses that Pipecat Cloud's API has one code for: the status; its CLI and its SDK's users compare with that."""


class Problem(Exception):
    """An answer that isn't success. ``error`` is for people, ``code`` and ``headers`` are for programs."""

    def __init__(self, status: int, code: str, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.code = code
        self.error = error
        self.headers = headers or {}

    def response(self, documented: bool = False) -> web.Response:
        """As HTTP. ``documented``: with the codes of Pipecat Cloud's API where it has them."""
        code = str(self.status) if documented and self.status in DOCUMENTED else self.code
        body: dict[str, str | int] = {"error": self.error, "code": code}
        if self.status == 429:
            # Pipecat Cloud answers these two, and its SDK reads the other two.
            body |= {"status": 429, "message": self.error}
        return web.Response(
            status=self.status,
            body=json.dumps(body).encode(),
            content_type="application/json",
            headers=self.headers,
        )


class AtCapacity(Problem):
    """As many sessions are live as may be."""

    def __init__(self, message: str) -> None:
        # Pipecat Cloud's word for it is looked for in the text, too.
        error = f"PCC-AGENT-AT-CAPACITY: {message}".strip()
        super().__init__(429, "at_capacity", error, {"Retry-After": str(RETRY_AFTER_S)})


class ShuttingDown(Problem):
    """The gateway ends before there is an answer."""

    def __init__(self) -> None:
        super().__init__(503, "shutting_down", "The gateway is shutting down; try again.")


def from_validation(error: ValidationError, code: str = "bad_request") -> Problem:
    """What is wrong with a request, field by field, its values left out. Pure."""
    told = error.errors(include_input=False, include_url=False, include_context=False)
    return Problem(400, code, "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told) + ".")


def unknown_bot(name: str) -> Problem:
    """The same for a Bot that isn't there and for one that is none of the caller's business."""
    return Problem(404, "unknown_bot", f"There is no Bot {name!r}.")


def from_api(error: ApiError, what: str) -> Problem:
    """The API server's refusal as the caller's answer. Pure."""
    if isinstance(error, NotFound):
        return Problem(404, "not_found", f"{what} is not there.")
    if isinstance(error, Refused) and error.status == 403:
        # Quota, admission and RBAC all say 403; RBAC names the gateway's own user, which is nobody's business.
        if error.lacks_a_right:
            return Problem(500, "misconfigured", "The gateway lacks rights in the cluster; its log says which.")
        return Problem(403, "forbidden", error.message)
    if isinstance(error, Refused):
        return Problem(400, "refused", error.message)
    if isinstance(error, AlreadyExists | Conflict | OtherObject):
        return Problem(409, "conflict", error.message)
    return Problem(503, "unavailable", "The Kubernetes API gave no answer; try again.")
