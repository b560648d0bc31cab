"""Between the gateway and the real API server: holds, loses or garbles what passes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from pipecat_operator.kube import login, ssl_context


class Between:
    """A plain-HTTP way to the API server of KUBECONFIG, as its user."""

    def __init__(self) -> None:
        self.created = asyncio.Event()
        """Something was made; its maker doesn't know yet."""
        self.held = asyncio.Event()
        """Clear, it holds the answers to creates back."""
        self.held.set()
        self.lose = False
        """Cut the connection instead of answering a create."""
        self.garble = False
        """Answer watches with what is no JSON."""
        info = login()
        connector = aiohttp.TCPConnector(ssl=ssl_context(info))
        self._http = aiohttp.ClientSession(
            info.server, connector=connector, headers=info.as_http_headers(), timeout=aiohttp.ClientTimeout(total=None)
        )
        self._runner: web.AppRunner | None = None

    async def start(self, folder: Path) -> Path:
        """Listen; answers a kubeconfig."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        config = {
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "it", "user": {"token": "none"}}],
        }
        file = folder / "between.kubeconfig"
        file.write_text(json.dumps(config))
        return file

    async def stop(self) -> None:
        """Let go of both sides."""
        if self._runner:
            await self._runner.cleanup()
        await self._http.close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self.garble and "watch" in request.query:
            return web.Response(text="no JSON\n")
        passed: dict[str, Any] = {"headers": {"Content-Type": request.headers.get("Content-Type", "application/json")}}
        if body := await request.read():
            passed["data"] = body
        async with self._http.request(request.method, request.rel_url, **passed) as answer:
            if request.method == "POST":
                self.created.set()
                await self.held.wait()
                if self.lose and request.transport:
                    request.transport.abort()
            told = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await told.prepare(request)
            async for chunk in answer.content.iter_any():
                await told.write(chunk)
            return told
