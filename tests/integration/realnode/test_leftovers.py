"""`make node` leaves nothing behind, however it ends."""

import json
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


@pytest.fixture(autouse=True)
def _busy(node: object) -> None:
    """Another node beside it all the while: that one keeps what it has."""


def test_ended_by_a_signal_it_leaves_nothing(tmp_path: Path) -> None:
    before = traces()
    with running(tmp_path) as (process, name):
        assert traces() != before
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert traces() == before
    assert not processes_of(tmp_path, name)


def test_killed_it_leaves_nothing_that_the_next_one_does_not_remove(tmp_path: Path) -> None:
    before = traces()
    with running(tmp_path) as (process, name):
        process.kill()
        process.wait(timeout=10)
        wait_until("its processes to end", lambda: not processes_of(tmp_path, name), 10)
        assert traces() - before == {f"cgroup {name}"}
    with running(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert traces() == before


def test_interrupted_while_it_starts_it_leaves_nothing(tmp_path: Path) -> None:
    before = traces()
    with started(tmp_path) as process:
        wait_until("its network", lambda: traces() != before, START_S)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert traces() == before
    assert not processes_of(tmp_path, str(tmp_path))


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipecat_local", "node", "--directory", str(folder)]
    with subprocess.Popen(tethered(command), stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A node by the command line, Ready; and its name."""
    with started(folder) as process:
        assert process.stdout
        told = next(line for line in process.stdout if "is Ready" in line)
        yield process, told.split()[2]


def traces() -> set[str]:
    """What there is on this machine of the kinds of things that a node makes."""
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    routes = json.loads(subprocess.check_output(["ip", "-json", "route", "show", "table", "all"]))
    tables = subprocess.check_output(["nft", "list", "tables"], text=True).splitlines()
    return {
        *(f"link {link['ifname']}" for link in links),
        *(f"route {route['dst']} {route.get('dev')}" for route in routes),
        *(f"table {table}" for table in tables),
        *(f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines()),
        *(f"cgroup {name}" for name in cgroups.left()),
    }


def processes_of(folder: Path, name: str) -> list[str]:
    """Command lines that name its folder, and processes in its cgroup."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (process / "cgroup").read_text()
        except OSError:
            continue
        if str(folder) in line or f"/{name}/" in groups:
            found.append(line)
    return found
