"""``make images``: the two images of this repository, by docker, podman or buildah, whichever works here.

Where no image registry can be reached, their base is made from Debian's packages, and the Dockerfiles are the same.
Each is saved as an archive (``docker load -i``, ``ctr images import``), and what is in it is told.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipecat_local.assets import MissingBinary, Say, say_to_stderr
from pipecat_local.realnode import packages
from pipecat_local.realnode.packages import NotHere
from pipecat_local.stack import ROOT

BASE: Final = "docker.io/library/python:3.12-slim-bookworm"
LOCAL_BASE: Final = "localhost/pipecat-base:dev"
ARCHIVES: Final = ROOT / ".cache" / "images"
CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""This machine's, for the build's downloads only: it may stand behind a proxy with a CA of its own."""
PULL_S: Final = 120
PROBE_S: Final = 30
MEGABYTE: Final = 1e6
SHOWN: Final = 8
"""Python packages told of, the largest."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of ours."""

    name: str
    dockerfile: str

    @property
    def tag(self) -> str:
        """As the examples and the chart's tests name it: with a tag that isn't ``latest`` nobody pulls it."""
        return f"docker.io/library/{self.name}:dev"

    @property
    def archive(self) -> Path:
        """Where it is saved."""
        return ARCHIVES / f"{self.name}.tar"


IMAGES: Final = (Image("pipecat-operator", "operator/Dockerfile"), Image("pipecat-bot", "bot_image/Dockerfile"))
TEST_IMAGES: Final = (
    Image("pipecat-standins", "local/standins/Dockerfile"),
    Image("pipecat-bot-standin", "local/standins/bot.Dockerfile"),
)
"""For a cluster without the internet. The second is FROM our bot's image."""


@dataclass(frozen=True, slots=True)
class Builder:
    """A program that builds images; what it is called with, before what differs from image to image."""

    name: str
    build: tuple[str, ...]
    never_pull: tuple[str, ...]
    save: tuple[str, ...]
    """``{tag}`` and ``{archive}`` stand for both."""
    probe: tuple[str, ...]
    """Answers 0 where it works."""


BUILDERS: Final = (
    Builder(
        "docker",
        ("docker", "build"),
        (),
        ("docker", "save", "--output", "{archive}", "{tag}"),
        # Its older builder knows no mounts and no secrets; without a daemon this fails, too.
        ("sh", "-c", "docker info && docker buildx version"),
    ),
    Builder(
        "podman",
        ("podman", "build"),
        ("--pull=never",),
        ("podman", "save", "--format", "docker-archive", "--output", "{archive}", "{tag}"),
        ("podman", "info"),
    ),
    Builder(
        "buildah",
        # It needs neither namespaces nor cgroups of its own for each step.
        ("buildah", "bud", "--layers", "--isolation", "chroot"),
        ("--pull=never",),
        ("buildah", "push", "{tag}", "docker-archive:{archive}:{tag}"),
        ("buildah", "info"),
    ),
)


def builder(say: Say) -> Builder:
    """The first that works; root on Debian gets one.

    Raises:
        MissingBinary: none does.
        NotHere: none could be installed.
    """
    if found := _working():
        return found
    if os.geteuid() == 0:
        packages.install(packages.IMAGES, say)
        if found := _working():
            return found
    raise MissingBinary("Neither docker, podman nor buildah works here: install one (Debian: apt-get install buildah).")


def _working() -> Builder | None:
    return next((each for each in BUILDERS if shutil.which(each.name) and _works(each.probe, PROBE_S)), None)


def build(images: Sequence[Image] = IMAGES, say: Say = say_to_stderr) -> list[Path]:
    """The archives of these images, made now, in that order.

    Raises:
        MissingBinary, NotHere: what to install.
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    by = builder(say)
    say(f"Building with {by.name}")
    base = _base(by, say)
    arguments = {"BASE": base, "VERSION": "dev", "REVISION": _revision()}
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    for image in images:
        say(f"  {image.name}")
        _build(by, image.tag, ROOT / image.dockerfile, ROOT, arguments)
        part = image.archive.with_suffix(".part")
        part.unlink(missing_ok=True)
        _run([word.format(tag=image.tag, archive=part) for word in by.save])
        part.replace(image.archive)
    return [image.archive for image in images]


def _build(by: Builder, tag: str, dockerfile: Path, context: Path, arguments: dict[str, str]) -> None:
    command = [*by.build, *by.never_pull, "--tag", tag, "--file", str(dockerfile)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if CA_BUNDLE.exists():
        command += ["--secret", f"id=ca,src={CA_BUNDLE}"]
    _run([*command, str(context)])


def _base(by: Builder, say: Say) -> str:
    """What our Dockerfiles begin with: Python's own image, where it can be had."""
    if _works([by.name, "pull", BASE], PULL_S):
        return BASE
    say(f"  {BASE} can't be pulled: making a base from Debian's packages")
    if os.geteuid() == 0:
        packages.install(packages.IMAGES, say)
    elif shutil.which("mmdebstrap") is None:
        raise MissingBinary("mmdebstrap is missing: it makes the images' base (apt-get install mmdebstrap).")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _run(
            [
                "mmdebstrap",
                # No apt in it: nothing is installed later.
                "--variant=essential",
                # libstdc++6: what wheels with compiled code expect of any Linux.
                "--include=ca-certificates,libstdc++6,python3,python3-venv",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/locale/*",
                _suite(),
                str(context / "base.tar"),
            ],
            # The same packages make the same layer, and what is built on it is still in the cache.
            SOURCE_DATE_EPOCH="0",
        )
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        _build(by, LOCAL_BASE, context / "Dockerfile", context, {})
    return LOCAL_BASE


def _suite() -> str:
    """This machine's, if it is Debian."""
    known = platform.freedesktop_os_release()
    return known.get("VERSION_CODENAME", "bookworm") if known.get("ID") == "debian" else "bookworm"


def _revision() -> str:
    if shutil.which("git") is None:
        return "unknown"
    ran = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def _works(command: Sequence[str], timeout_s: float) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _run(command: Sequence[str], **env: str) -> None:
    """Its output is shown only when it fails.

    Raises:
        subprocess.CalledProcessError: it did.
    """
    ran = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"DOCKER_BUILDKIT": "1"} | env, check=False
    )
    if ran.returncode:
        sys.stderr.write(ran.stdout + ran.stderr)
        ran.check_returncode()


@dataclass(frozen=True, slots=True)
class Content:
    """What an image is made of, in bytes, uncompressed."""

    layers: list[int]
    site_packages: Counter[str]
    """By top-level folder; compiled files of a folder count with it."""

    def table(self) -> str:
        """For people."""
        lines = [
            f"    {sum(self.layers) / MEGABYTE:6.0f} MB uncompressed, of them the base {self.layers[0] / MEGABYTE:.0f}",
            f"    {self.site_packages.total() / MEGABYTE:6.0f} MB site-packages, the largest:",
        ]
        lines += [f"    {size / MEGABYTE:10.1f} {name}" for name, size in self.site_packages.most_common(SHOWN)]
        return "\n".join(lines)


def content(archive: Path) -> Content:
    """Of an image saved as docker does."""
    sizes: list[int] = []
    found: Counter[str] = Counter()
    for files in layers(archive):
        sizes.append(sum(files.values()))
        for path, size in files.items():
            within = path.partition("site-packages/")[2]
            if within and path.startswith("/opt/venv/"):
                found[within.partition("/")[0]] += size
    return Content(sizes, found)


def layers(archive: Path) -> Iterator[dict[str, int]]:
    """The bytes of each file, by its path, layer by layer from the base up."""
    with tarfile.open(archive) as whole:
        for layer in _manifest(whole)["Layers"]:
            with tarfile.open(fileobj=whole.extractfile(layer)) as files:
                yield {f"/{member.name.removeprefix('./')}": member.size for member in files if member.isfile()}


def config(archive: Path) -> dict[str, Any]:
    """What the image says of itself: user, entrypoint, labels."""
    with tarfile.open(archive) as whole:
        told: dict[str, Any] = _json(whole, _manifest(whole)["Config"])["config"]
        return told


def _manifest(whole: tarfile.TarFile) -> dict[str, Any]:
    found: dict[str, Any] = _json(whole, "manifest.json")[0]
    return found


def _json(whole: tarfile.TarFile, member: str) -> Any:
    file = whole.extractfile(member)
    if file is None:
        raise ValueError(f"{member} of an image archive is no file")
    return json.loads(file.read())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.images", description=__doc__)
    parser.add_argument("--for-tests", action="store_true", help="those of the stand-ins too, where a real node can be")
    for_tests = parser.parse_args().for_tests
    wanted = (*IMAGES, *TEST_IMAGES) if for_tests else IMAGES
    if for_tests:
        try:
            packages.require_root()
        except NotHere as reason:
            say_to_stderr(f"No images are built for tests: {reason}")
            return
    try:
        archives = build(wanted)
    except (MissingBinary, NotHere) as missing:
        sys.exit(str(missing))
    except subprocess.CalledProcessError as failed:
        sys.exit(f"{failed.cmd[0]} failed, see above.")
    for image, archive in zip(wanted, archives, strict=True):
        sys.stdout.write(f"{image.tag}  ({archive.relative_to(ROOT)})\n{content(archive).table()}\n")


if __name__ == "__main__":
    main()
