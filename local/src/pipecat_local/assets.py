"""The Kubernetes binaries: each from the first source that has it in the right version.

KUBEBUILDER_ASSETS, the cache, the official release (checked against its published checksum), else built once
from the Go modules in ``local/`` with the Go on PATH. ``python -m pipecat_local.assets`` gets all that tests need.
"""

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit

KUBERNETES: Final = "1.37.2"
ETCD: Final = "3.7.0"
KWOK: Final = "0.8.0"
COREDNS: Final = "1.15.0"
HELM: Final = "4.3.1"

MODULES: Final = Path(__file__).parents[2]
"""``local/``: holds the Go modules."""

CONNECT_TIMEOUT_S: Final = 4.0
DOWNLOAD_TIMEOUT_S: Final = 60.0
"""Without a single byte, before a download is given up."""
STILL_BUSY_S: Final = 15.0
"""Between two signs of life of a long step."""


class MissingBinary(Exception):
    """A binary can be had from nowhere; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Release:
    """Where a project publishes a program. ``{machine}`` stands for amd64 or arm64.

    ``checksums``: either the checksum alone, or lines of ``checksum  file name``.
    ``member``: the program's path in it when it is a tar archive.
    """

    url: str
    checksums: str
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """One program: the version it must have, and the ways to get it."""

    name: str
    version: str
    module: str
    package: str
    stamp: str = ""
    """What the linker writes into it: without a version kubectl refuses to run."""
    version_args: tuple[str, ...] = ("--version",)
    release: Release | None = None


_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_WHERE: Final = "k8s.io/component-base/version"
_STAMP: Final = f"-X {_WHERE}.gitVersion=v{KUBERNETES} -X {_WHERE}.gitMajor={_MAJOR} -X {_WHERE}.gitMinor={_MINOR}"


def _kubernetes(name: str, *version_args: str) -> Binary:
    url = f"https://dl.k8s.io/release/v{KUBERNETES}/bin/linux/{{machine}}/{name}"
    return Binary(
        name,
        KUBERNETES,
        "controlplane",
        f"k8s.io/kubernetes/cmd/{name}",
        _STAMP,
        version_args or ("--version",),
        Release(url, f"{url}.sha256"),
    )


_ETCD_RELEASE: Final = f"https://github.com/etcd-io/etcd/releases/download/v{ETCD}"
ETCD_BINARY: Final = Binary(
    "etcd",
    ETCD,
    "controlplane",
    "go.etcd.io/etcd/server/v3",
    release=Release(
        f"{_ETCD_RELEASE}/etcd-v{ETCD}-linux-{{machine}}.tar.gz",
        f"{_ETCD_RELEASE}/SHA256SUMS",
        f"etcd-v{ETCD}-linux-{{machine}}/etcd",
    ),
)
CONTROL_PLANE: Final = (
    ETCD_BINARY,
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubectl", "version", "--client"),
)
KWOK_BINARY: Final = Binary(
    "kwok", KWOK, "kwok", "sigs.k8s.io/kwok/cmd/kwok", f"-X sigs.k8s.io/kwok/pkg/consts.Version=v{KWOK}"
)
_COREDNS_RELEASE: Final = (
    f"https://github.com/coredns/coredns/releases/download/v{COREDNS}/coredns_{COREDNS}_linux_{{machine}}.tgz"
)
NODE: Final = (
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    Binary(
        "coredns",
        COREDNS,
        "realnode/coredns",
        ".",
        version_args=("-version",),
        release=Release(_COREDNS_RELEASE, f"{_COREDNS_RELEASE}.sha256", "coredns"),
    ),
    Binary("pause", "1.0.0", "realnode/pause", "."),
)
"""What a real node runs, besides what a distribution's packages hold."""
_HELM_RELEASE: Final = f"https://get.helm.sh/helm-v{HELM}-linux-{{machine}}.tar.gz"
HELM_BINARY: Final = Binary(
    "helm",
    HELM,
    "helm",
    "helm.sh/helm/v4/cmd/helm",
    f"-X helm.sh/helm/v4/internal/version.version=v{HELM}",
    ("version",),
    Release(_HELM_RELEASE, f"{_HELM_RELEASE}.sha256sum", "linux-{machine}/helm"),
)

Say = Callable[[str], None]


def say_to_stderr(line: str) -> None:
    """Progress, for people."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def cache_folder() -> Path:
    """Where binaries are kept, one folder for each control plane; each binary's version is checked besides."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "pipecat-operator" / f"kubernetes-{KUBERNETES}-etcd-{ETCD}-kwok-{KWOK}"


def find(binaries: tuple[Binary, ...], say: Say = say_to_stderr) -> dict[str, Path]:
    """The path of each binary, by name; fetched or built when it is nowhere.

    Raises:
        MissingBinary: with what to do.
    """
    if sys.platform != "linux":
        raise MissingBinary(
            "The local control plane runs on Linux only (kube-apiserver ships for nothing else): "
            "elsewhere use kind, https://kind.sigs.k8s.io."
        )
    return {binary.name: _given(binary, say) or _cached(binary, say) for binary in binaries}


def _given(binary: Binary, say: Say) -> Path | None:
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    path = Path(folder) / binary.name if folder else None
    return path if path and has_version(path, binary, say) else None


def _cached(binary: Binary, say: Say) -> Path:
    path = cache_folder() / binary.name
    if has_version(path, binary, lambda _: None):
        # Not for this one to wait until another has been built.
        return path
    with _lock(say):
        if not has_version(path, binary, say):
            _provide(binary, path, say)
            if not has_version(path, binary, say):
                raise MissingBinary(f"{path} was made just now and still is not {binary.name} {binary.version}.")
    return path


def has_version(path: Path, binary: Binary, say: Say) -> bool:
    """Whether it is there, runs, and is the version we want."""
    if not path.is_file():
        return False
    try:
        ran = subprocess.run(
            [path, *binary.version_args], capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"  {path} does not run ({error}): not used")
        return False
    told = re.search(r"\bv?(\d+\.\d+\.\d+)", ran.stdout + ran.stderr)
    if told and told[1] == binary.version:
        return True
    say(f"  {path} is version {told[1] if told else 'unknown'}, not {binary.version}: not used")
    return False


def _provide(binary: Binary, target: Path, say: Say) -> None:
    what = f"{binary.name} {binary.version}"
    if binary.release and reachable(binary.release.url):
        try:
            with _step(f"{what}: downloading", say):
                download(binary.release, target)
        except OSError as error:
            say(f"  {what}: the download failed ({error})")
        else:
            return
    if shutil.which("go") is None:
        raise MissingBinary(
            f"{what} is missing, {'can not be downloaded' if binary.release else 'must be built'} and there is no Go "
            "on PATH: install Go 1.26 or newer (it is then built, once)"
            f"{', or go online' if binary.release else ''}."
        )
    with _step(f"{what}: building with Go, once: a few minutes", say):
        _build(binary, target)


def reachable(url: str) -> bool:
    """Whether the host of that address takes connections (or a proxy stands between). Never hangs."""
    parts = urlsplit(url)
    return _answers(f"{parts.scheme}://{parts.netloc}")


@cache
def _answers(site: str) -> bool:
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(site, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S).close()  # noqa: S310
        except HTTPError:
            pass
        except OSError:
            return
        answered.set()

    # A name server that doesn't answer is not covered by the timeout of urlopen.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(CONNECT_TIMEOUT_S)
    return answered.is_set()


def machine() -> str:
    """This machine's name in the addresses of releases."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def download(release: Release, target: Path) -> None:
    """Fetch it, compare its checksum with the published one, put it in its place.

    Raises:
        OSError: it did not come.
        MissingBinary: it came, but not as published.
    """
    url = release.url.format(machine=machine())
    part = target.with_name(f"{target.name}.download")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _open(release.checksums.format(machine=machine())) as answer:
        published = _checksum_of(url.rsplit("/", 1)[1], answer.read().decode())
    with _open(url) as answer, part.open("wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)
    with part.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != published:
        part.unlink()
        raise MissingBinary(f"{url}: its checksum is {got}, the published one is {published}: refused, try again.")
    if release.member:
        _unpack(part, release.member.format(machine=machine()))
    _put(part, target)


def _open(url: str) -> IO[bytes]:
    return urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_S)  # type: ignore[no-any-return]  # noqa: S310


def _checksum_of(file: str, published: str) -> str | None:
    """From ``<checksum>`` alone, or the line ``<checksum>  <file>``."""
    for line in published.splitlines():
        words = line.split()
        if words and words[1:] in ([], [file]):
            return words[0]
    return None


def _unpack(archive: Path, member: str) -> None:
    """Replace the archive by one program of it."""
    unpacked = archive.with_suffix(".unpacked")
    with tarfile.open(archive) as tar, unpacked.open("wb") as file:
        source = tar.extractfile(member)
        if source is None:
            raise MissingBinary(f"{member} is not a file in the archive of {archive.name}.")
        shutil.copyfileobj(source, file)
    unpacked.replace(archive)


def _build(binary: Binary, target: Path) -> None:
    built = target.with_name(f"{target.name}.build")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {binary.stamp}", "-o", str(built), binary.package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    ran = subprocess.run(
        command, cwd=MODULES / binary.module, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise MissingBinary(f"Building {binary.name} with Go failed:\n{ran.stderr[-2000:]}")
    _put(built, target)


def _put(made: Path, target: Path) -> None:
    made.chmod(0o755)
    made.replace(target)


@contextmanager
def _step(what: str, say: Say) -> Iterator[None]:
    """Say that it begins, that it goes on, and how long it took."""
    began = time.monotonic()
    done = threading.Event()

    def still() -> None:
        while not done.wait(STILL_BUSY_S):
            say(f"  {what}: {time.monotonic() - began:.0f} s so far")

    say(f"  {what}")
    ticking = threading.Thread(target=still, daemon=True)
    ticking.start()
    try:
        yield
    finally:
        done.set()
        ticking.join()
    say(f"  {what}: done in {time.monotonic() - began:.0f} s")


@contextmanager
def _lock(say: Say) -> Iterator[None]:
    """Two processes don't build at once."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _step("waiting for another process that fetches or builds", say):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Get all that tests need here, and say where they are: only root can have a real node."""
    real_node = (*NODE, HELM_BINARY) if os.geteuid() == 0 else ()
    try:
        found = find((*CONTROL_PLANE, KWOK_BINARY, *real_node))
    except MissingBinary as missing:
        sys.exit(str(missing))
    for name, path in found.items():
        sys.stdout.write(f"{name}\t{path}\n")


if __name__ == "__main__":
    main()
