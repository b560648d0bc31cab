"""What the API server asks a kubelet for: the logs behind ``kubectl logs``."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from aiohttp import web

from pipecat_local import certificates
from pipecat_local.node.pods import Pods

FOLLOW_S: Final = 0.2
CHUNK: Final = 64 * 1024


class Endpoint:
    """An HTTPS server on loopback.

    Like a kubelet with anonymous access it asks nobody who they are: whoever is on this machine as another user
    can read bots' output here, as they could call the stand-ins.
    """

    def __init__(self, pods: Pods, folder: Path) -> None:
        self._pods = pods
        self._folder = folder
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)

    async def start(self, ip: str) -> int:
        """Answers the port."""
        self._folder.mkdir(parents=True, exist_ok=True)
        cert, key = certificates.server(certificates.authority(), self._folder, "kubelet")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        await self._runner.setup()
        site = web.TCPSite(self._runner, ip, 0, ssl_context=context)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Ends what is being followed too."""
        await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        match, query = request.match_info, request.query
        pod = self._pods.find(match["namespace"], match["pod"])
        log = pod.log(match["container"]) if pod else None
        if pod is None or log is None or not log.exists():
            raise web.HTTPNotFound(text=f"no output of container {match['container']} here")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with log.open("rb") as stream:
            if "tailLines" in query:
                stream.seek(_tail_offset(log, int(query["tailLines"])))
            left = int(query.get("limitBytes", 2**63))
            while left > 0:
                over = pod.over or query.get("follow") != "true"
                chunk = stream.read(min(CHUNK, left))
                left -= len(chunk)
                if chunk:
                    await response.write(chunk)
                elif over:
                    break
                else:
                    await asyncio.sleep(FOLLOW_S)
        await response.write_eof()
        return response


def _tail_offset(log: Path, lines: int) -> int:
    content = log.read_bytes()
    kept = content.splitlines(keepends=True)[-lines:] if lines else []
    return len(content) - sum(map(len, kept))
