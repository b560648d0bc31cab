"""The operator as a process, on the shared control plane; pods run on a process node, Daily is the stand-in."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from support.forks import Zygote
from support.nodes import process_node
from support.operated import Child, Operated, new_namespace, start_daily
from support.world import World, world

Worlds = Callable[[], AbstractAsyncContextManager[World]]


@pytest.fixture(scope="session")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A Daily stand-in for the worker; each operator's rooms have names of their own."""
    child = start_daily(tmp_path_factory.mktemp("daily"))
    yield child
    child.stop()


@pytest.fixture(scope="session")
def pool(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A process node for the worker, in a pool of its own."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    with process_node(cluster, name, tmp_path_factory.mktemp("node")):
        yield name


@pytest.fixture
def own_daily(tmp_path: Path) -> Iterator[Child]:
    """A Daily stand-in for one test, which may do with it what it likes."""
    child = start_daily(tmp_path)
    yield child
    child.stop()


@pytest.fixture
def faulty(cluster: Cluster, pool: str, own_daily: Child, tmp_path: Path) -> Iterator[Operated]:
    """A namespace with an operator, a Bot, and a Daily of its own."""
    with new_namespace(cluster, pool, own_daily, tmp_path) as operated:
        operated.bot()
        operated.start()
        yield operated


@pytest.fixture
def idle(cluster: Cluster, pool: str, daily: Child, tmp_path: Path) -> Iterator[Operated]:
    """A namespace without an operator yet."""
    with new_namespace(cluster, pool, daily, tmp_path) as operated:
        yield operated


@pytest.fixture
def operated(idle: Operated) -> Operated:
    """A namespace with an operator and a Bot."""
    idle.bot()
    idle.start()
    return idle


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    """Makes worlds, as many as wanted at once; they share fake nodes and a zygote."""
    folder: Path = tmp_path_factory.mktemp("worlds")
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    async with KwokNodes(cluster, folder, pool=pool), Zygote() as zygote:
        yield lambda: world(cluster, pool, zygote, folder)
