"""The operator as a process, on the shared control plane; pods run on a process node, Daily is the stand-in."""

import json
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipecat_local.controlplane import POOL, Cluster
from support.operated import DAILY_KEY, SCRIPTED, Child, Operated

SCRIPT = Path(__file__).parents[1] / "support" / "scripted_bot.py"


@pytest.fixture(scope="session")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A Daily stand-in for the worker; each operator's rooms have names of their own."""
    log = tmp_path_factory.mktemp("daily") / "daily.log"
    child = Child([sys.executable, "-m", "pipecat_local.daily", "--no-limits"], {"DAILY_API_KEY": DAILY_KEY}, log)
    yield child
    child.stop()


@pytest.fixture(scope="session")
def pool(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process node for the worker, in a pool of its own."""
    name, folder = f"pool-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("node")
    taint = {"key": POOL, "value": name, "effect": "NoSchedule"}
    metadata = {"name": name, "labels": {POOL: name}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"taints": [taint]}}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(node))
    images = folder / "images.json"
    images.write_text(json.dumps({"images": {SCRIPTED: {"command": [sys.executable, str(SCRIPT)]}}}))
    command: list[str | Path] = [sys.executable, "-m", "pipecat_local.node", "--kubeconfig", cluster.kubeconfig]
    child = Child([*command, "--name", name, "--images", images, "--directory", folder], {}, folder / "node.log")
    yield name
    child.stop()
    cluster.kubectl("delete", "node", name, "--wait=false")


@pytest.fixture
def idle(cluster: Cluster, pool: str, daily: Child, tmp_path: Path) -> Iterator[Operated]:
    """A namespace without an operator yet."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    cluster.create_namespace(name, pool=pool)
    operated = Operated(cluster, name, daily, tmp_path)
    yield operated
    operated.close()
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def operated(idle: Operated) -> Operated:
    """A namespace with an operator and a Bot."""
    idle.bot()
    idle.start()
    return idle
