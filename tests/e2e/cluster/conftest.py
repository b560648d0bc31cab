"""The chart in a real cluster: that of PIPECAT_E2E_KUBECONFIG, or a real node that is made for these tests.

Whose cluster it is, they don't know: they have a kubeconfig, and images that are there.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from e2e.client import FORGED, PRIVATE, PUBLIC, Client, new_token
from pipecat_gateway.keys.ring import PREFIXES
from pipecat_local import images
from pipecat_local.assets import CONTROL_PLANE, HELM_BINARY, find
from pipecat_local.controlplane import Cluster
from pipecat_local.realnode.cluster import real_node
from pipecat_local.realnode.packages import NotHere, require_root
from support import leaks
from support.installed import GivenCluster, Installed

GIVEN = "PIPECAT_E2E_KUBECONFIG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Here, or nowhere."""
    if os.environ.get(GIVEN):
        return
    try:
        require_root()
    except NotHere as reason:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(f"{reason} Or name a cluster by {GIVEN}."))


@asynccontextmanager
async def some_cluster(folder: Path, kubectl: Path) -> AsyncIterator[Cluster]:
    """With our images."""
    if given := os.environ.get(GIVEN):
        yield GivenCluster(Path(given), kubectl, folder)
        return
    archives = [image.archive for image in (*images.IMAGES, *images.TEST_IMAGES)]
    if missing := [archive.name for archive in archives if not archive.exists()]:
        pytest.fail(f"These images are missing, python -m pipecat_local.images --for-tests makes them: {missing}")
    async with real_node(folder, archives) as node:
        yield node


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installed]:
    """Installed once; a test that takes it away brings it back."""
    folder = tmp_path_factory.mktemp("cluster")
    binaries = await asyncio.to_thread(find, (*CONTROL_PLANE, HELM_BINARY))
    async with some_cluster(folder, binaries["kubectl"]) as cluster:
        there = Installed(cluster, binaries["helm"])
        await asyncio.to_thread(there.check)
        leaks.note(folder, there.secrets)
        try:
            await asyncio.to_thread(there.set_up)
            yield there
            (folder / "pods.log").write_text(await asyncio.to_thread(there.logs))
        finally:
            await asyncio.to_thread(there.tear_down)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Of the gateway, which it found without any API key: they are made while it runs, as its guide says."""
    public, private = [await asyncio.to_thread(new_token, installed, kind) for kind in (PUBLIC, PRIVATE)]
    forged = public.replace(PREFIXES[PUBLIC], PREFIXES[PRIVATE], 1)
    tokens = {PUBLIC: public, PRIVATE: private, FORGED: forged}
    leaks.note(tmp_path_factory.mktemp("client"), tokens.values())
    made = Client(installed)
    await asyncio.to_thread(made.set_up, tokens)
    return made
