"""Process nodes: pods run as processes of this machine."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pipecat_local.controlplane import POOL, Cluster
from pipecat_local.serving import PYTHONPATH
from support.operated import REAL, SCRIPTED, Child

IMAGES = {
    SCRIPTED: [sys.executable, str(Path(__file__).with_name("scripted_bot.py"))],
    REAL: [sys.executable, "-m", "pipecat_bot"],
}


@contextlib.contextmanager
def process_node(cluster: Cluster, name: str, folder: Path, pool: str | None = None) -> Iterator[Child]:
    """A node in that pool, else in one of its own name. Both may be gone already when this ends."""
    pool = pool or name
    taint = {"key": POOL, "value": pool, "effect": "NoSchedule"}
    metadata = {"name": name, "labels": {POOL: pool}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(node))
    images = folder / "images.json"
    images.write_text(json.dumps({"images": {image: {"command": command} for image, command in IMAGES.items()}}))
    command: list[str | Path] = [sys.executable, "-m", "pipecat_local.node", "--kubeconfig", cluster.kubeconfig]
    command += ["--name", name, "--images", images, "--directory", folder, "--pythonpath", PYTHONPATH]
    child = Child(command, {}, folder / "node.log")
    try:
        yield child
    finally:
        if child.ended() is None:
            child.stop()
        cluster.kubectl("delete", "node", name, "--wait=false", "--ignore-not-found")
