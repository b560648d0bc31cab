"""What kind of route a path is: who may call it, and what it costs. Paths are those of the router, with its braces."""

from typing import Final

from aiohttp import web

STARTS: Final = ("/start_bot", "/start", "/v1/public/{bot}/start")
QUIET: Final = ("/healthz", "/readyz", "/metrics")
"""Asked all the time by machines: not logged, and answered however much else there is to do."""
OPEN: Final = (*QUIET, "/docs", "/openapi.json")
"""No key is needed."""


def path_of(request: web.Request) -> str | None:
    """The path of the route, None where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else None


def is_public(path: str) -> bool:
    """Whether a public key may call it. Whatever isn't known to be public is private."""
    return path in STARTS or path.startswith("/v1/public/")


def starts(request: web.Request) -> bool:
    """Whether it asks for a session."""
    return request.method == "POST" and path_of(request) in STARTS
