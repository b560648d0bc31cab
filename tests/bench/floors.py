"""The floors, as processes: ``python -m bench.floors kopf|watch NAMESPACE``, until killed.

``kopf``: handlers that do nothing, on every event of BotSessions, Jobs and Pods. ``watch``: aiohttp, json.loads,
and nothing else, on the same.
"""

import asyncio
import json
import sys
from typing import Any

import aiohttp
import kopf

from pipecat_local.serving import announce
from pipecat_operator import handlers
from pipecat_operator.kube import JOBS, PODS, SESSIONS, Kube, login

WATCHED = (SESSIONS, JOBS, PODS)


async def with_kopf(namespace: str) -> None:
    """The operator's own settings of kopf; none of its code."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def authenticate(**_: Any) -> kopf.ConnectionInfo:
        return login()

    for resource in WATCHED:

        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
        async def nothing(**_: Any) -> None:
            pass

    await kopf.operator(registry=registry, settings=handlers.settings(), standalone=True, namespaces=[namespace])


async def with_watches(namespace: str) -> None:
    """One stream each, every line parsed and forgotten."""
    kube = Kube()

    async def follow(path: str) -> None:
        version, endless = "0", aiohttp.ClientTimeout(total=None)
        while True:
            query = {"watch": "true", "resourceVersion": version}
            async with kube._http.get(
                kube._url(path), params=query, headers=kube._headers(), timeout=endless
            ) as response:
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        version = json.loads(line)["object"]["metadata"]["resourceVersion"]
            sys.stderr.write(f"the watch of {path} was ended by the API server\n")

    await asyncio.gather(*(follow(resource.path(namespace)) for resource in WATCHED))


if __name__ == "__main__":
    kind, namespace = sys.argv[1:]
    announce()
    asyncio.run({"kopf": with_kopf, "watch": with_watches}[kind](namespace))
