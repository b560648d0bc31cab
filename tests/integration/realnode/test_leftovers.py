"""`make node` leaves nothing behind, however it ends."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipecat_local.processes import tethered, wait_until
from pipecat_local.realnode import cgroups

START_S = 120.0
IMAGE_BUILDS = "/var/lib/containers/"
"""Whoever builds images on this machine mounts there."""


@pytest.fixture(autouse=True)
def _busy(node: object) -> None:
    """Another node beside it all the while: that one keeps what it has."""


def test_ended_by_a_signal_it_leaves_nothing(tmp_path: Path) -> None:
    before = traces()
    with running(tmp_path) as process:
        assert {f"cgroup {name_in(tmp_path)}"} < left(before, tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert left(before, tmp_path) == set()


def test_killed_it_leaves_nothing_that_the_next_one_does_not_remove(tmp_path: Path) -> None:
    before = traces()
    with running(tmp_path / "killed") as process:
        name = name_in(tmp_path / "killed")
        process.kill()
        process.wait(timeout=10)
    wait_until("it to go", lambda: left(before, tmp_path / "killed") == {f"cgroup {name}"}, 10)
    with running(tmp_path / "next") as process:
        assert name_in(tmp_path / "next") == name or f"cgroup {name}" not in traces()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert left(before, tmp_path / "killed") | left(before, tmp_path / "next") == set()


def test_interrupted_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    before = traces()
    with started(tmp_path) as process:
        wait_until("its network", lambda: name_in(tmp_path) and "link" in str(left(before, tmp_path)), START_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert left(before, tmp_path) == set()


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipecat_local", "node", "--directory", str(folder)]
    with subprocess.Popen(tethered(command), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A node by the command line, Ready."""
    with started(folder) as process:
        assert process.stdout
        assert any("is Ready" in line for line in process.stdout)
        yield process


def name_in(folder: Path) -> str | None:
    """The name of the node whose files are there."""
    return next((file.name for file in folder.glob(f"{cgroups.PREFIX}*")), None)


def left(before: set[str], folder: Path) -> set[str]:
    """What there is now and was not before, of the node whose files are there: other nodes come and go."""
    name = name_in(folder)
    assert name
    number = name.removeprefix(cgroups.PREFIX)
    others = re.compile(rf"(pcnode|{cgroups.PREFIX})(?!{number}\b)")
    return {trace for trace in traces() - before if not others.search(trace)} | processes_of(folder, name)


def traces() -> set[str]:
    """What there is on this machine of the kinds of things that a node makes."""
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    routes = json.loads(subprocess.check_output(["ip", "-json", "route", "show", "table", "all"]))
    tables = subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if IMAGE_BUILDS not in line]
    return {
        *(f"link {link['ifname']}" for link in links),
        *(f"route {route['dst']} {route.get('dev')}" for route in routes),
        *(f"table {table}" for table in tables),
        *(f"mount {mount}" for mount in mounts),
        *(f"cgroup {name}" for name in cgroups.left()),
    }


def processes_of(folder: Path, name: str) -> set[str]:
    """Command lines that name its folder, and of processes in its cgroups."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (process / "cgroup").read_text()
        except OSError:
            continue
        if f"{folder}/" in line or f"/{name}/" in groups:
            found.add(f"process {line}")
    return found
