"""/healthz, /readyz and /metrics."""

from collections.abc import Callable

from aiohttp import web

from pipecat_operator.metrics import Metrics


async def serve(host: str, port: int, metrics: Metrics, ready: Callable[[], str | None]) -> web.AppRunner:
    """Listen. ``ready`` answers what is still missing, or None.

    A replica that stands by for the Lease is ready: a rollout must not wait for it to lead.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = ready()
        return web.Response(text="ok\n") if missing is None else web.Response(status=503, text=f"{missing}\n")

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), content_type="text/plain", charset="utf-8")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
