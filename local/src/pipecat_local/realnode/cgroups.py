"""The folder that a node's pods have in every cgroup hierarchy, with cgroup v1, v2, or both."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipecat_local.realnode.packages import NotHere

ROOT: Final = Path("/sys/fs/cgroup")
PREFIX: Final = "pipecat-node-"
CONTROLLERS: Final = frozenset(("cpu", "cpuset", "hugetlb", "io", "memory", "pids"))
REMOVE_S: Final = 10.0


def make(name: str) -> None:
    """The folders, ready for a kubelet to make its own below.

    Raises:
        NotHere: they can't be made.
    """
    try:
        for hierarchy in _hierarchies():
            _make(hierarchy, hierarchy / name)
    except OSError as error:
        raise NotHere(f"A real node needs cgroups, and they can not be made: {error}.") from error


def remove(name: str) -> None:
    """All of it, once what ran in it has gone.

    Raises:
        OSError: something still runs in it.
    """
    deadline = time.monotonic() + REMOVE_S
    for hierarchy in _hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            _remove(Path(folder), deadline)


def left() -> set[str]:
    """The names of the nodes that have folders."""
    return {folder.name for hierarchy in _hierarchies() for folder in hierarchy.glob(f"{PREFIX}*")}


def _make(hierarchy: Path, folder: Path) -> None:
    _pass_on(hierarchy)
    folder.mkdir(exist_ok=True)
    _pass_on(folder)
    for file in ("cpuset.cpus", "cpuset.mems"):
        # In v1 a new one is empty, and nothing can run in it.
        if (hierarchy / "tasks").exists() and (folder / file).exists():
            (folder / file).write_text((hierarchy / file).read_text())


def _remove(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # A process that has ended leaves its cgroup a moment later.
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _hierarchies() -> Iterator[Path]:
    """The root of each, without the symbolic links that v1 has (cpu -> cpu,cpuacct)."""
    for folder in (ROOT, *sorted(ROOT.iterdir())):
        if not folder.is_symlink() and folder.is_mount() and (folder / "cgroup.procs").exists():
            yield folder


def _pass_on(folder: Path) -> None:
    """In v2 a controller is there below only if it is named here."""
    subtree = folder / "cgroup.subtree_control"
    if subtree.exists():
        available = CONTROLLERS.intersection((folder / "cgroup.controllers").read_text().split())
        subtree.write_text(" ".join(f"+{controller}" for controller in available))
