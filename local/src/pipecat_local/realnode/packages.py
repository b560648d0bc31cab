"""The programs that a distribution's packages hold."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipecat_local.assets import Say

PLUGINS: Final = ("ptp", "host-local", "loopback")
PLUGINS_PACKAGE: Final = "containernetworking-plugins"
PLUGIN_FOLDERS: Final = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
LOCK_S: Final = 300
"""Machines that have just been started install things of their own."""
HOW: Final = ("--yes", "--no-remove", "--no-install-recommends", "--option", f"DPkg::Lock::Timeout={LOCK_S}")
NAMESPACES: Final = ("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "true")
Programs = Mapping[str, str]
"""The Debian package of each."""
NODE: Final[Programs] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    **dict.fromkeys(PLUGINS, PLUGINS_PACKAGE),
}
IMAGES: Final[Programs] = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
"""What builds images where neither docker nor podman does."""


class NotHere(Exception):
    """A real node can't be had on this machine; the text is one line that says what it needs."""


def require_root() -> None:
    """Raises NotHere unless this is root on Linux, and no container holds it back."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotHere("A real node needs root on Linux: elsewhere use kind, https://kind.sigs.k8s.io.")
    if subprocess.run(NAMESPACES, capture_output=True, check=False).returncode:
        raise NotHere(
            "A real node needs namespaces of its own, which root may not make here: an unprivileged container?"
        )


def install(programs: Programs, say: Say) -> None:
    """Whatever of them is missing, from Debian or a descendant of it.

    Raises:
        NotHere: it can't be installed.
    """
    if not (packages := _missing(programs)):
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise NotHere(f"These packages are needed, and there is no apt-get to install them with: {names}.")
    say(f"  installing packages: {names}")
    for command in (
        ["update"],
        [
            "install",
            "--yes",
            "--option",
            f"DPkg::Lock::Timeout={LOCK_S}",
            "--no-remove",
            "--no-install-recommends",
            *packages,
        ],
    ):
        ran = _apt_get(*command)
        if ran.returncode:
            raise NotHere(f"These packages could not be installed: {names}.\n{(ran.stdout + ran.stderr)[-2000:]}")
    if missing := _missing(programs):
        raise NotHere(f"These packages were installed just now, and still something of them is missing: {missing}.")


def plugin_folder() -> Path:
    """Where the CNI plugins are.

    Raises:
        NotHere: nowhere.
    """
    for folder in PLUGIN_FOLDERS:
        if all((folder / plugin).exists() for plugin in PLUGINS):
            return folder
    raise NotHere(f"The CNI plugins are not installed: {PLUGINS_PACKAGE}.")


def _missing(programs: Programs) -> list[str]:
    """The packages of it."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, PLUGIN_FOLDERS)])
    return sorted({package for program, package in programs.items() if shutil.which(program, path=path) is None})


def _apt_get(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a mount namespace that hides systemd: else containerd's package would start its daemon."""
    hide = "if [ -d /run/systemd ]; then mount -t tmpfs none /run/systemd; fi"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{hide} && exec apt-get --quiet "$@"', "apt-get", *arguments],
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
