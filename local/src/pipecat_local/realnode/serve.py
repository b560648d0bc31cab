"""``make node``: a real node in the foreground."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pipecat_local.realnode.cluster import RealNode, real_node

SIGNALS: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
CHECK_S: Final = 1.0

USE: Final = """
The node {node.name} is Ready; Ctrl-C ends it. Logs are in {node.folder}.

  export KUBECONFIG={node.kubeconfig}
  export PATH=$PATH:{node.folder}        # kubectl

An image, from an archive as `docker save` or `buildah push ... docker-archive:` writes it (a pod wants it with
imagePullPolicy: IfNotPresent and a tag that is not latest):

  {load} $PWD/image.tar

Nodes, pods and Services can be reached from here at their addresses; pods reach what listens on {node.host_address}.
"""


async def serve(folder: Path, images: Sequence[Path]) -> None:
    """Run a node and say how to use it, until one of SIGNALS, or until a process of it ends.

    Raises:
        ComponentFailed: that one; and what real_node raises.
    """
    running = asyncio.create_task(_run(folder, images))
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in SIGNALS:
            loop.add_signal_handler(number, lambda: None)
        running.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, end)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    sys.stdout.write("It has ended.\n")


async def _run(folder: Path, images: Sequence[Path]) -> None:
    async with real_node(folder, images) as node:
        sys.stdout.write(USE.format(node=node, load=_load(node)))
        sys.stdout.flush()
        while True:
            await asyncio.sleep(CHECK_S)
            node.check()


def _load(node: RealNode) -> str:
    return " ".join((*node.enter, "ctr", "--namespace", "k8s.io", "images", "import"))
