"""What is in the images, and what isn't."""

from pathlib import Path

import pytest

from pipecat_local.images import IMAGES, MEGABYTE, Image, config, content, layers

UNWANTED = ("/bin/gcc", "/bin/cc", "/bin/pip", "/bin/pip3", "/var/cache/apt/pkgcache.bin", "/root/.cache")
"""Compilers, installers, caches."""


@pytest.fixture(params=IMAGES, ids=[image.name for image in IMAGES])
def image(request: pytest.FixtureRequest) -> Image:
    """Each, as it was saved."""
    made: Image = request.param
    if not made.archive.exists():
        pytest.skip("the images of another cluster aren't here")
    return made


def paths_of(archive: Path) -> set[str]:
    """All files that aren't the base's."""
    _, *ours = layers(archive)
    return {path for files in ours for path in files}


def test_it_runs_as_nobody_under_an_init_and_says_what_it_is(image: Image):
    told = config(image.archive)
    assert told["User"] == "65532:65532"
    assert told["Entrypoint"][0] == "dumb-init"
    assert told["Labels"]["org.opencontainers.image.title"] == image.name
    assert {"org.opencontainers.image.version", "org.opencontainers.image.revision"} <= told["Labels"].keys()


def test_nothing_is_in_it_that_only_its_build_needs(image: Image):
    paths = paths_of(image.archive)
    assert [path for path in paths if path.endswith(UNWANTED) or "/site-packages/pip/" in path] == []


def test_all_of_it_is_compiled(image: Image):
    """On a read-only root nothing can be compiled at start."""
    paths = paths_of(image.archive)
    sources = {path for path in paths if path.startswith("/opt/") and path.endswith(".py")}
    compiled = {
        f"{folder.rpartition('/')[0]}/{name.split('.cpython-')[0]}.py"
        for folder, _, name in (path.rpartition("/") for path in paths)
        if folder.endswith("/__pycache__")
    }
    # What doesn't compile: templates of source files that some packages bring.
    assert len(sources - compiled) <= 0.01 * len(sources), sorted(sources - compiled)[:20]


def test_the_bots_python_packages_stay_small():
    (bot,) = (image for image in IMAGES if image.name == "pipecat-bot")
    if not bot.archive.exists():
        pytest.skip("the images of another cluster aren't here")
    packages = content(bot.archive).site_packages
    assert packages.total() <= 330 * MEGABYTE
    assert {"numba", "llvmlite", "resampy"}.isdisjoint(packages)
