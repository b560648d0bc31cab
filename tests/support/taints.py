"""A node that loses its pods: what the taint manager does to those of a node that is gone, at once."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from pipecat_operator.kube import Conflict, Kube, Resource

NODES: Final = Resource("", "v1", "nodes")
TAINT: Final = {"key": "pipecat.dev/gone", "effect": "NoExecute"}


@contextlib.asynccontextmanager
async def tainted(kube: Kube, node: str) -> AsyncIterator[None]:
    """Its pods are evicted, and none is scheduled to it, for the time of the block."""
    await _set(kube, node, gone=True)
    try:
        yield
    finally:
        await _set(kube, node, gone=False)


async def _set(kube: Kube, node: str, gone: bool) -> None:
    while True:
        there = await kube.get(NODES, "", node)
        others = [taint for taint in there["spec"].get("taints", []) if taint["key"] != TAINT["key"]]
        there["spec"]["taints"] = [*others, TAINT] if gone else others
        try:
            await kube.replace(NODES, "", node, there)
        except Conflict:
            continue
        return
