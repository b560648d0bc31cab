"""The bench's own world, on the control plane of the test run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.world import World
from pipecat_local.controlplane import Cluster


@pytest.fixture
async def world(cluster: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    """Of it."""
    there = World(cluster, tmp_path)
    yield there
    await there.api.close()
