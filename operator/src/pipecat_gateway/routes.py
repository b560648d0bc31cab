"""What a route is: how it is served, and what the OpenAPI document says of it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from pipecat_gateway.errors import Problem, from_validation
from pipecat_gateway.keys import ANONYMOUS, Key
from pipecat_gateway.models import Query

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Q = TypeVar("Q", bound=Query)

KEY: Final = "key"
"""In a request: the API key that it came with."""
BOT: Final = "bot"
"""In a request: the Bot that it is to start, once it is known to be there."""


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


def key_of(request: web.Request) -> Key:
    """Whose request it is."""
    key: Key = request.get(KEY, ANONYMOUS)
    return key


def query_of(request: web.Request, model: type[Q]) -> Q:
    """What stands behind the question mark.

    Raises:
        Problem: it makes no sense.
    """
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        # Pipecat Cloud documents this code for it.
        raise from_validation(error, "400") from None


def answer(value: BaseModel, leave_out_none: bool = False) -> web.Response:
    """As JSON, by the names that are documented."""
    text = value.model_dump_json(by_alias=True, exclude_none=leave_out_none)
    return web.Response(text=text, content_type="application/json")


def added(app: web.Application, routes: Iterable[Route]) -> None:
    """Serve them."""
    for route in routes:
        app.router.add_route(route.method, route.path, route.serve)


def method_not_allowed(problem: web.HTTPMethodNotAllowed) -> Problem:
    """With the methods that are."""
    allowed = ", ".join(sorted(problem.allowed_methods))
    return Problem(405, "method_not_allowed", f"Use {allowed}.", {"Allow": allowed})
