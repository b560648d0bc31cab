"""One real node for all tests of this folder, and an image that is a busybox and a program that fetches."""

import asyncio
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipecat_local.realnode.cluster import RealNode, real_node
from pipecat_local.realnode.images import write_archive
from pipecat_local.realnode.packages import NotHere, require_root
from support.pods import IMAGE, Pods

DOWNLOAD = "apt-get --quiet download -o APT::Sandbox::User=root busybox-static"
APPLETS = ("cat", "grep", "httpd", "id", "ls", "mkdir", "nslookup", "sh", "sleep", "touch")


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    try:
        require_root()
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """Runs the node's coroutines; its tests are not."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as running:
        yield running


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of it. Nothing is installed for it."""
    folder = tmp_path_factory.mktemp("image")
    fetch = folder / "fetch"
    subprocess.run(
        ["go", "build", "-o", fetch, "."],
        cwd=Path(__file__).with_name("fetch"),
        env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"},
        check=True,
        capture_output=True,
    )
    for command in (
        # The lists of a fresh machine are empty, or too old.
        ["sh", "-c", f"{DOWNLOAD} || (apt-get --quiet update && {DOWNLOAD})"],
        ["sh", "-c", "dpkg-deb --extract busybox-static_*.deb ."],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return write_archive(
        folder / "image.tar",
        IMAGE,
        {"bin/busybox": folder / "bin" / "busybox", "bin/fetch": fetch},
        ["/bin/sh"],
        {f"bin/{applet}": "busybox" for applet in APPLETS},
    )


@pytest.fixture(scope="session")
def node(runner: asyncio.Runner, image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNode]:
    """Ready, and with the image."""
    making = real_node(tmp_path_factory.mktemp("node"), [image])
    yield runner.run(making.__aenter__())
    runner.run(making.__aexit__(None, None, None))


@pytest.fixture
def pods(node: RealNode) -> Iterator[Pods]:
    """A fresh namespace, to run pods in."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    node.create_namespace(name)
    yield Pods(node, name)
    node.kubectl("delete", "namespace", name, "--wait=false")
