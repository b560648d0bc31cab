"""One real control plane for the whole test run, shared by all of its workers."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from pipecat_local.processes import tethered, wait_until
from support.leaks import Leak, search

ROOT = Path(__file__).parents[1]
FOLDER = "PIPECAT_TEST_CLUSTER"
"""In the environment: where the control plane of this run keeps its files."""
START_S = 120.0
LEAKS = pytest.StashKey[list[Leak]]()


def pytest_configure(config: pytest.Config) -> None:
    """Start it before the workers: they inherit the environment. It gets ready while tests are collected."""
    if hasattr(config, "workerinput") or config.option.collectonly or not _wanted(config):
        return
    folder = Path(tempfile.mkdtemp(prefix="pipecat-tests-"))
    os.environ[FOLDER] = str(folder)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pipecat_local.controlplane",
        "--directory",
        folder,
        "--install",
        ROOT / "crds",
    ]
    with (folder / "output").open("wb") as log:
        process = subprocess.Popen(
            tethered(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )

    def report() -> None:
        assert process.stdout
        with process.stdout as stdout:
            line = stdout.readline().decode()
        (folder / "outcome.part").write_text(line or (folder / "output").read_text())
        (folder / "outcome.part").replace(folder / "outcome")

    reporting = threading.Thread(target=report)
    reporting.start()

    def end() -> None:
        process.terminate()
        process.wait(timeout=30)
        reporting.join(timeout=5)
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(end)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that told a secret has failed: its logs and the audit log hold all that was said of sessions."""
    config = session.config
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    folders = [Path(config._tmp_path_factory.getbasetemp())]  # The workers' folders are below.
    if FOLDER in os.environ:
        folders.append(Path(os.environ[FOLDER]))
    config.stash[LEAKS] = found = search(folders)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Where a secret was told."""
    if found := config.stash.get(LEAKS, []):
        terminalreporter.section("Secrets were told", red=True)
        for leak in found:
            terminalreporter.line(str(leak))


def _wanted(config: pytest.Config) -> bool:
    """Unit tests don't need it, end-to-end tests and the real node have one of their own."""
    without = (ROOT / "tests" / "unit", ROOT / "tests" / "e2e", ROOT / "tests" / "integration" / "realnode")
    paths = [Path(arg.split("::")[0]).resolve() for arg in config.args]
    return not all(any(path.is_relative_to(folder) for folder in without) for path in paths)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The control plane, its CRDs installed; KUBECONFIG is its admin's."""
    folder = Path(os.environ[FOLDER])
    outcome = folder / "outcome"
    wait_until("the control plane of the test run", outcome.exists, START_S)
    try:
        json.loads(outcome.read_text())
    except ValueError:
        pytest.fail(f"The control plane did not start:\n{outcome.read_text()}")
    running = Cluster(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(running.kubeconfig))
        yield running


@pytest.fixture
def kubectl(cluster: Cluster) -> Callable[..., str]:
    """Real kubectl, as the admin; answers what it printed."""
    return cluster.kubectl


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh one; nothing runs its pods."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    cluster.create_namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def kwok_namespace(cluster: Cluster, tmp_path: Path) -> AsyncIterator[str]:
    """A fresh one whose pods kwok plays, on fake nodes of its own."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    async with KwokNodes(cluster, tmp_path, pool=name):
        cluster.create_namespace(name, pool=name)
        yield name
        cluster.kubectl("delete", "namespace", name, "--wait=false")
