"""Operators behind proxies that lose, delay and refuse; pods are kwok's. One event loop for a whole module."""

import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from support.forks import Zygote
from support.world import World, world

Worlds = Callable[[], AbstractAsyncContextManager[World]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    """Makes worlds, as many as wanted at once; they share fake nodes and a zygote."""
    folder: Path = tmp_path_factory.mktemp("worlds")
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    async with KwokNodes(cluster, folder, pool=pool), Zygote() as zygote:
        yield lambda: world(cluster, pool, zygote, folder)


@pytest_asyncio.fixture(loop_scope="module")
async def a_world(worlds: Worlds) -> AsyncIterator[World]:
    """One."""
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(worlds())
