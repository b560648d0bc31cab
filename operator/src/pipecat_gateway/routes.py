"""What a route is: how it is served, and what the OpenAPI document says of it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from pipecat_gateway.keys.ring import Key
from pipecat_gateway.wire.errors import Problem, from_validation
from pipecat_gateway.wire.models import Query

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Q = TypeVar("Q", bound=Query)

KEY: Final = web.RequestKey("key", Key)
"""In a request: the API key that it came with."""
BOT: Final = web.RequestKey("bot", str)
"""In a request: the Bot that it is to start, once it is known to be there."""
SESSION: Final = web.RequestKey("session", str)
"""In a request: the UID of the session that it started, once there is one."""
ANY_METHOD: Final = "*"


class Access(StrEnum):
    """Who may call a route."""

    OPEN = "open"
    PUBLIC = "public"
    """Any API key."""
    PRIVATE = "private"
    """A private API key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    serve: Handler
    access: Access
    summary: str
    details: str = ""
    request: type[BaseModel] | None = None
    query: type[Query] | None = None
    answer: type[BaseModel] | None = None
    content: str = "text/plain"
    """Of an answer that is no JSON."""
    problems: tuple[int, ...] = ()
    """Statuses besides those that access gives."""
    cloud: bool = False
    """It is Pipecat Cloud's, so errors have the codes that its API documents."""
    starts: bool = False
    proxied: bool = False
    """A bot answers it, for as long as it likes: counted apart from all others."""
    quiet: bool = False
    """Machines ask it all the time: not logged, and answered however much else there is to do."""


Table = Mapping[tuple[str, str], Route]
"""By method and path."""
_TABLE: Final = web.AppKey("table", Table)


def added(app: web.Application, routes: Iterable[Route]) -> None:
    """Serve them."""
    table: dict[tuple[str, str], Route] = {}
    for route in routes:
        resource = app.router.add_route(route.method, route.path, route.serve).resource
        # Without the patterns that variables may have.
        path = resource.canonical if resource else route.path
        table[route.method, path] = route
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, route.serve)
            table["HEAD", path] = route
    app[_TABLE] = table


def path_of(request: web.Request) -> str | None:
    """The path of the route, with its braces; None where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else None


def route_of(request: web.Request) -> Route | None:
    """The one that serves it, if any does."""
    table, path = request.app[_TABLE], path_of(request) or ""
    return table.get((request.method, path)) or table.get((ANY_METHOD, path))


def key_of(request: web.Request) -> Key:
    """Whose request it is."""
    return request[KEY]


def query_of(request: web.Request, model: type[Q]) -> Q:
    """What stands behind the question mark.

    Raises:
        Problem: it makes no sense.
    """
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        route = route_of(request)
        # Pipecat Cloud documents this code for it.
        raise from_validation(error, "400" if route and route.cloud else "bad_request") from None


def answer(value: BaseModel, leave_out_none: bool = False) -> web.Response:
    """As JSON, by the names that are documented."""
    text = value.model_dump_json(by_alias=True, exclude_none=leave_out_none)
    return web.Response(text=text, content_type="application/json")


def method_not_allowed(problem: web.HTTPMethodNotAllowed) -> Problem:
    """With the methods that are."""
    allowed = ", ".join(sorted(problem.allowed_methods))
    return Problem(405, "method_not_allowed", f"Use {allowed}.", {"Allow": allowed})
