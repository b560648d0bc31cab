"""What a caller is told when something fails: an HTTP status, and a body with string ``error`` and ``code``."""

import json
from collections.abc import Mapping

from aiohttp import web

from pipecat_operator.kube import AlreadyExists, ApiError, Conflict, NotFound, OtherObject, Refused


class Problem(Exception):
    """An answer that isn't success. ``error`` is for people, ``code`` and ``headers`` are for programs."""

    def __init__(self, status: int, code: str, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.code = code
        self.error = error
        self.headers = headers

    def response(self) -> web.Response:
        """As HTTP."""
        return web.Response(
            status=self.status,
            body=json.dumps({"error": self.error, "code": self.code}).encode(),
            content_type="application/json",
            headers=self.headers,
        )


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
