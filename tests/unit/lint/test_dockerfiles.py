"""Dockerfiles: hadolint finds nothing, nor do the rules that it has no word for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HADOLINT = Path(sys.executable).with_name("hadolint")
SHIPPED = [ROOT / "bot_image" / "Dockerfile", ROOT / "operator" / "Dockerfile"]
ALL = [*SHIPPED, ROOT / "examples" / "bot" / "Dockerfile", *sorted((ROOT / "local" / "standins").glob("*Dockerfile"))]


def named(file: Path) -> str:
    """For a test's id."""
    return str(file.relative_to(ROOT))


def instructions(file: Path) -> list[tuple[str, str]]:
    """Each instruction and its arguments, lines joined, comments left out."""
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    lines = [line for line in text.replace("\\\n", "").splitlines() if line.strip()]
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in lines)]


def told(file: Path, word: str) -> list[str]:
    """The arguments of every such instruction."""
    return [rest for name, rest in instructions(file) if name == word]


@pytest.mark.parametrize("file", ALL, ids=named)
def test_hadolint_finds_nothing(file: Path):
    ran = subprocess.run([HADOLINT, "--no-color", file], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


@pytest.mark.parametrize("file", ALL, ids=named)
def test_the_base_is_an_argument_so_that_it_can_be_pinned(file: Path):
    name, _, base = told(file, "ARG")[0].partition("=")
    assert {used.split()[0] for used in told(file, "FROM")} == {f"${{{name}}}"}
    assert re.fullmatch(r"\S+:(?!latest)[\w.-]+", base)
    assert told(file, "ADD") == []


@pytest.mark.parametrize("file", SHIPPED, ids=named)
def test_what_ships_runs_as_nobody_and_installs_what_is_pinned(file: Path):
    # PSA restricted refuses a name: the kubelet can't tell whether it is root's.
    (user,) = told(file, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    (entrypoint,) = told(file, "ENTRYPOINT")
    assert entrypoint.startswith('["dumb-init", ')
    installs = [run for run in told(file, "RUN") if "pip" in run and " install " in run]
    assert installs
    for run in installs:
        assert {"--no-cache-dir", "--require-hashes"} <= set(run.split())
    # The stage that ships only copies: no compiler, cache or package list gets into it.
    last = [name for name, _ in instructions(file)]
    assert "RUN" not in last[len(last) - last[::-1].index("FROM") :]
