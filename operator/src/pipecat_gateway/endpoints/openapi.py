"""The OpenAPI 3.1 document, made from the routes and their models. Pure."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from pipecat_gateway.routes import ANY_METHOD, Access, Route
from pipecat_gateway.wire.idempotency import HEADER, MAX
from pipecat_gateway.wire.models import ErrorAnswer
from pipecat_gateway.wire.requests import NAME

Json = dict[str, Any]

REFERENCE: Final = "#/components/schemas/{model}"
SCHEME: Final = "apiKey"
PATH_PARAMETERS: Final[dict[str, Json]] = {
    "bot": {"description": "Name of the Bot.", "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"}},
    "id": {"description": "UID of the session.", "schema": {"type": "string", "format": "uuid"}},
    "path": {"description": "Of the bot's own; slashes may stand in it.", "schema": {"type": "string"}},
    "org": {"description": "Any: the API key tells the tenant.", "schema": {"type": "string", "minLength": 1}},
}
IDEMPOTENCY: Final[Json] = {
    "name": HEADER,
    "in": "header",
    "description": "Of your making, in double quotes: the same key and request give the same session again.",
    # Of these characters JSON's text is written as that of Structured Fields.
    "content": {
        "application/json": {"schema": {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": MAX}}
    },
}
ABOUT: Final = (
    "Starts, lists, reads and stops sessions of Pipecat bots. The paths below /v1 are Pipecat Cloud's. Every error has "
    "a text `error` for people and a text `code` for programs."
)
METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""Those that a document has words for."""
COMMON: Final = (500, 503)
"""Any route that asks the API server may answer these."""


def document(routes: Sequence[Route], secured: bool) -> Json:
    """All routes. ``secured``: API keys are asked for."""
    schemas = _schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        for method in METHODS if route.method == ANY_METHOD else (route.method.lower(),):
            paths.setdefault(_path(route), {})[method] = _operation(method, route, secured)
    components: Json = {"schemas": schemas}
    if secured:
        components["securitySchemes"] = {SCHEME: {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pipecat gateway", "version": "v1", "description": ABOUT},
        "paths": paths,
        "components": components,
    }


def _schemas(routes: Sequence[Route]) -> Json:
    asked: list[tuple[Any, JsonSchemaMode]] = [(ErrorAnswer, "serialization")]
    for route in routes:
        asked += [(route.request, "validation")] if route.request else []
        asked += [(route.answer, "serialization")] if route.answer else []
    _, definitions = models_json_schema(list(dict.fromkeys(asked)), ref_template=REFERENCE)
    found: Json = definitions["$defs"]
    return found


def _path(route: Route) -> str:
    """Without the patterns of its variables."""
    return re.sub(r":[^}]*", "", route.path)


def _operation(method: str, route: Route, secured: bool) -> Json:
    operation: Json = {
        "operationId": _operation_id(method, route),
        "summary": route.summary,
        "responses": _responses(route, secured),
    }
    if route.details:
        operation["description"] = route.details
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.request:
        operation["requestBody"] = {"required": route.cloud, "content": {"application/json": _ref(route.request)}}
    if route.proxied and method in ("put", "post", "patch"):
        operation["requestBody"] = {"content": {"application/json": {}}}
    if secured and route.access is not Access.OPEN:
        operation["security"] = [{SCHEME: []}]
    return operation


def _operation_id(method: str, route: Route) -> str:
    words = [word for word in re.split(r"[^a-z0-9]+", _path(route)) if word]
    return "_".join([method, *words])


def _parameters(route: Route) -> list[Json]:
    found: list[Json] = [
        {"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", _path(route))
    ]
    if route.query:
        for name, schema in route.query.model_json_schema()["properties"].items():
            found.append({"name": name, "in": "query", "schema": _bare(schema)})
    return [*found, IDEMPOTENCY] if route.starts else found


def _bare(schema: Json) -> Json:
    """A parameter is left out rather than null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "title")}
    if rest.get("default", "") is None:
        del rest["default"]
    return {**(options[0] if options else {}), **rest}


def _responses(route: Route, secured: bool) -> Json:
    content = {"application/json": _ref(route.answer)} if route.answer else {route.content: {}}
    responses: Json = {"200": {"description": "Done.", "content": content}}
    if route.proxied:
        responses = {"default": {"description": "The bot's own answer.", "content": content}}
    access = (401, 403, 429) if secured and route.access is not Access.OPEN else ()
    common = COMMON if route.access is not Access.OPEN else ()
    refusals = (403,) if route.starts else ()
    for status in sorted({*route.problems, *access, *common, *refusals}):
        error = {"application/json": _ref(ErrorAnswer)} if route.answer else {route.content: {}}
        responses[str(status)] = {"description": f"{HTTPStatus(status).phrase}.", "content": error}
        if status == 429:
            retry = {"description": "Seconds.", "schema": {"type": "integer"}}
            responses[str(status)]["headers"] = {"Retry-After": retry}
    return responses


def _ref(model: type) -> Json:
    return {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}
