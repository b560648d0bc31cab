"""The Kubernetes binaries: each from the first source that has it in the right version.

KUBEBUILDER_ASSETS, the cache, the official release (checked against its published checksum), else built once
from ``local/controlplane`` with the Go on PATH.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KUBERNETES: Final = "1.37.2"
ETCD: Final = "3.7.0"
KWOK: Final = "0.8.0"

RELEASES: Final = "https://dl.k8s.io/release"
CONNECT_TIMEOUT_S: Final = 3.0
MODULES: Final = Path(__file__).parents[2]
"""``local/``: holds the Go modules controlplane and kwok."""


class MissingBinary(Exception):
    """A binary can be had from nowhere; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Binary:
    """One program: how to build it, and the version it must have. ``released``: official downloads have it."""

    name: str
    package: str
    version: str
    module: str = "controlplane"
    released: bool = True
    version_args: tuple[str, ...] = ("--version",)


_K8S: Final = "k8s.io/kubernetes/cmd"
CONTROL_PLANE: Final = (
    Binary("etcd", "go.etcd.io/etcd/server/v3", ETCD, released=False),
    Binary("kube-apiserver", f"{_K8S}/kube-apiserver", KUBERNETES),
    Binary("kube-controller-manager", f"{_K8S}/kube-controller-manager", KUBERNETES),
    Binary("kube-scheduler", f"{_K8S}/kube-scheduler", KUBERNETES),
    Binary("kubectl", f"{_K8S}/kubectl", KUBERNETES, version_args=("version", "--client")),
)
KWOK_BINARY: Final = Binary("kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK, module="kwok", released=False)

Say = Callable[[str], None]


def say_to_stderr(line: str) -> None:
    """Progress, for people."""
    sys.stderr.write(line + "\n")


def cache_folder() -> Path:
    """Where binaries are kept, one folder for each set of versions."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "pipecat-operator" / f"kubernetes-{KUBERNETES}-etcd-{ETCD}-kwok-{KWOK}"


def find(binaries: tuple[Binary, ...], say: Say = say_to_stderr) -> dict[str, Path]:
    """The path of each binary, by name; fetched or built when it is nowhere.

    Raises:
        MissingBinary: with what to do.
    """
    if sys.platform != "linux":
        raise MissingBinary(
            "The local control plane runs on Linux only (kube-apiserver ships for nothing else): use kind."
        )
    given = os.environ.get("KUBEBUILDER_ASSETS")
    found = {}
    for binary in binaries:
        if given and has_version(Path(given) / binary.name, binary, say):
            found[binary.name] = Path(given) / binary.name
            continue
        cached = cache_folder() / binary.name
        with _lock():
            if not has_version(cached, binary, say):
                _provide(binary, cached, say)
        found[binary.name] = cached
    return found


def has_version(path: Path, binary: Binary, say: Say) -> bool:
    """Whether it is there, runs, and is the version we want."""
    if not path.is_file():
        return False
    try:
        ran = subprocess.run([path, *binary.version_args], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"{path} does not run ({error}); looking elsewhere")
        return False
    told = re.search(r"v?(\d+\.\d+\.\d+)", ran.stdout + ran.stderr)
    if told and told[1] == binary.version:
        return True
    say(f"{path} is version {told[1] if told else 'unknown'}, {binary.version} is wanted; looking elsewhere")
    return False


def _provide(binary: Binary, target: Path, say: Say) -> None:
    began = time.monotonic()
    if binary.released and download(binary.name, RELEASES, target):
        say(f"  {binary.name} {binary.version}: downloaded in {time.monotonic() - began:.0f} s")
        return
    if shutil.which("go") is None:
        raise MissingBinary(
            f"{binary.name} {binary.version} is neither in KUBEBUILDER_ASSETS nor in {target.parent}, and can't be "
            "downloaded: install Go 1.26 or newer (it is then built once), or go online."
        )
    say(f"  {binary.name} {binary.version}: building with Go (once; all of it takes about 10 minutes on 2 cores)")
    _build(binary, target)
    say(f"  {binary.name} {binary.version}: built in {time.monotonic() - began:.0f} s")


def download(name: str, releases: str, target: Path) -> bool:
    """From the official release; False where it can't be reached.

    Raises:
        MissingBinary: what came is not what was published.
    """
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    url = f"{releases}/v{KUBERNETES}/bin/linux/{machine}/{name}"
    try:
        with urllib.request.urlopen(f"{url}.sha256", timeout=CONNECT_TIMEOUT_S) as answer:  # noqa: S310
            published = answer.read().decode().split()[0]
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
            content = answer.read()
    except (OSError, urllib.error.URLError, IndexError):
        return False
    if hashlib.sha256(content).hexdigest() != published:
        raise MissingBinary(f"{name}: the download's checksum is not the published one; try again.")
    _install(target, content)
    return True


def _build(binary: Binary, target: Path) -> None:
    major, minor, _ = KUBERNETES.split(".")
    version = "k8s.io/component-base/version"
    stamp = f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    built = target.with_suffix(".building")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {stamp}", "-o", str(built), binary.package]
    if binary.name == "kwok":
        command[4] = f"-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK}"
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    ran = subprocess.run(
        command, cwd=MODULES / binary.module, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise MissingBinary(f"go build of {binary.name} failed:\n{ran.stderr[-2000:]}")
    built.replace(target)


def _install(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_bytes(content)
    part.chmod(0o755)
    part.replace(target)


@contextmanager
def _lock() -> Iterator[None]:
    """Two processes don't build at once."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
