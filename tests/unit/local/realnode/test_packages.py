"""Where there can't be a real node, one line says what it needs."""

from pathlib import Path

import pytest

from pipecat_local.realnode import packages
from pipecat_local.realnode.packages import NotHere


@pytest.mark.parametrize(("platform", "user"), [("linux", 1000), ("darwin", 0)])
def test_only_for_root_on_linux(monkeypatch: pytest.MonkeyPatch, platform: str, user: int) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(NotHere, match=r"^A real node needs root on Linux"):
        packages.require_root()


def test_not_for_a_root_without_its_rights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(NotHere, match=r"^A real node needs namespaces"):
        packages.require_root()


def test_without_apt_get_it_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotHere, match=r"there is no apt-get .*: .*containerd .*runc"):
        packages.install(packages.NODE, lambda _: None)


def test_with_all_of_them_here_nothing_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in packages.NODE:
        (tmp_path / program).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "PLUGIN_FOLDERS", (tmp_path,))
    said: list[str] = []
    packages.install(packages.NODE, said.append)
    assert said == []


def test_an_apt_get_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unshare = tmp_path / "unshare"
    unshare.write_text("#!/bin/sh\necho E: no such network >&2\nexit 100\n")
    unshare.chmod(0o755)
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotHere, match=r"could not be installed: .*containerd.*\n.*no such network"):
        packages.install(packages.NODE, lambda _: None)
