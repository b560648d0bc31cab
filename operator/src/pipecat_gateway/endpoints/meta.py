"""What is about the gateway itself: health, metrics, the document of the API."""

import json
from collections.abc import Callable, Sequence

from aiohttp import web

from pipecat_gateway.endpoints import docs_page, openapi
from pipecat_gateway.routes import Access, Handler, Route
from pipecat_gateway.sessions.watch import Sessions

NOT_READY = "the sessions are not listed yet: the log says why\n"


class MetaRoutes:
    """Open to all."""

    def __init__(self, sessions: Sessions, metrics: Callable[[], bytes]) -> None:
        self._sessions = sessions
        self._metrics_text = metrics
        self._openapi_text = b""
        self._docs_text = ""

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            _open("/openapi.json", self._openapi, "This document", "application/json"),
            _open("/docs", self._docs, "This document, for people", "text/html"),
            _open("/healthz", self._healthz, "Whether the process lives", quiet=True),
            _open("/readyz", self._readyz, "Whether it can serve", problems=(503,), quiet=True),
            _open("/metrics", self._metrics, "Metrics, for Prometheus", quiet=True),
        ]

    def describe(self, routes: Sequence[Route], secured: bool) -> None:
        """Write the document of all routes. ``secured``: API keys are asked for."""
        document = openapi.document(routes, secured)
        self._openapi_text = json.dumps(document).encode()
        self._docs_text = docs_page.written(document)

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi_text, content_type="application/json")

    async def _docs(self, _: web.Request) -> web.Response:
        return web.Response(text=self._docs_text, content_type="text/html", headers=docs_page.HEADERS)

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._sessions.synced:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=NOT_READY)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics_text(), content_type="text/plain", charset="utf-8")


def _open(
    path: str,
    serve: Handler,
    summary: str,
    content: str = "text/plain",
    problems: tuple[int, ...] = (),
    quiet: bool = False,
) -> Route:
    return Route(
        method="GET",
        path=path,
        serve=serve,
        access=Access.OPEN,
        summary=summary,
        content=content,
        problems=problems,
        quiet=quiet,
    )
