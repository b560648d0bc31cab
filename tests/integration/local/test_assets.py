"""Where the Kubernetes binaries come from: each source is used only for what it has in the right version."""

import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipecat_local import assets
from pipecat_local.assets import Binary, MissingBinary, Release

PROGRAM = b"#!/bin/sh\necho tool version v1.2.3\n"


@pytest.fixture(autouse=True)
def _no_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, no Go, no KUBEBUILDER_ASSETS."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A release site on this machine: its address and its folder."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def tool(release: Release | None = None, version: str = "1.2.3") -> Binary:
    return Binary("tool", version, "nowhere", "nowhere", release=release)


def put(folder: Path, content: bytes, name: str = "tool") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / name
    file.write_bytes(content)
    file.chmod(0o755)
    return file


def find(binary: Binary) -> tuple[Path, list[str]]:
    said: list[str] = []
    return assets.find((binary,), said.append)["tool"], said


def test_kubebuilder_assets_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = put(tmp_path / "given", PROGRAM)
    put(assets.cache_folder(), PROGRAM)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "given"))
    assert find(tool()) == (given, [])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"#!/bin/sh\necho v1.2.4\n", "is version 1.2.4, not 1.2.3: not used"),
        (b"#!/bin/sh\nexit 1\n", "is version unknown, not 1.2.3: not used"),
        (b"\x7fELF of another machine", "does not run ([Errno 8] Exec format error"),
    ],
    ids=["other version", "no version", "does not run"],
)
def test_a_wrong_binary_in_kubebuilder_assets_is_passed_over(
    content: bytes, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(tmp_path / "given", content)
    cached = put(assets.cache_folder(), PROGRAM)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "given"))
    found, said = find(tool())
    assert found == cached
    assert [line for line in said if str(tmp_path / "given") in line and told in line]


def test_downloaded_once_when_the_checksum_is_the_published_one(site: tuple[str, Path]) -> None:
    url, folder = site
    put(folder, PROGRAM)
    (folder / "tool.sha256").write_text(hashlib.sha256(PROGRAM).hexdigest())
    found, said = find(tool(Release(f"{url}/tool", f"{url}/tool.sha256")))
    assert found == assets.cache_folder() / "tool"
    assert said[0] == "  tool 1.2.3: downloading"
    (folder / "tool").unlink()
    assert find(tool()) == (found, [])


def test_downloaded_out_of_an_archive_with_a_list_of_checksums(site: tuple[str, Path]) -> None:
    url, folder = site
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("tool-linux/tool")
        entry.size = len(PROGRAM)
        tar.addfile(entry, io.BytesIO(PROGRAM))
    put(folder, packed.getvalue(), "tool.tar.gz")
    right = hashlib.sha256(packed.getvalue()).hexdigest()
    (folder / "SUMS").write_text(f"{'0' * 64}  tool.zip\n{right}  tool.tar.gz\n")
    found, _ = find(tool(Release(f"{url}/tool.tar.gz", f"{url}/SUMS", "tool-linux/tool")))
    assert found.read_bytes() == PROGRAM


@pytest.mark.parametrize("published", ["0" * 64, f"{'0' * 64}  another-file", ""])
def test_refused_when_the_checksum_is_another(site: tuple[str, Path], published: str) -> None:
    url, folder = site
    put(folder, PROGRAM)
    (folder / "tool.sha256").write_text(published)
    with pytest.raises(MissingBinary, match="refused, try again"):
        find(tool(Release(f"{url}/tool", f"{url}/tool.sha256")))
    assert [file.name for file in assets.cache_folder().iterdir()] == ["lock"]


def test_without_go_and_without_internet_one_line_says_what_to_do() -> None:
    nobody = "http://127.0.0.1:9/tool"
    with pytest.raises(MissingBinary) as missing:
        find(tool(Release(nobody, nobody)))
    assert str(missing.value) == (
        "tool 1.2.3 is missing, can not be downloaded and there is no Go on PATH: "
        "install Go 1.26 or newer (it is then built, once), or go online."
    )


def test_a_release_that_lacks_the_file_leaves_the_next_source_its_turn(site: tuple[str, Path]) -> None:
    url, _ = site
    with pytest.raises(MissingBinary, match="there is no Go on PATH"):
        find(tool(Release(f"{url}/tool", f"{url}/tool.sha256")))


def test_elsewhere_than_on_linux_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(MissingBinary, match=r"runs on Linux only .* elsewhere use kind"):
        find(tool())


def test_built_with_go_in_the_version_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a `go` that is slow and writes down its calls: two that ask at once build once."""
    go = put(
        tmp_path / "bin",
        b'#!/bin/sh\necho "$PWD $@" >> "$CALLS"\nsleep 0.3\n'
        b'while [ "$1" != -o ]; do shift; done\nprintf "#!/bin/sh\\necho v1.2.3\\n" > "$2"\n',
        "go",
    )
    monkeypatch.setenv("PATH", f"{go.parent}:/bin:/usr/bin")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr(assets, "MODULES", tmp_path)
    (tmp_path / "module").mkdir()
    binary = Binary("tool", "1.2.3", "module", "example.org/tool", "-X version=1.2.3")
    threads = [threading.Thread(target=find, args=(binary,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = assets.cache_folder() / "tool"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{tmp_path}/module build -trimpath -ldflags -s -w -X version=1.2.3 -o {made}.build example.org/tool"
    ]
