"""The GitHub Actions workflow: actionlint finds nothing, nor do the rules that it has no word for."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipecat_local.assets import find
from pipecat_local.linters import ACTIONLINT

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


@pytest.fixture(scope="module")
def actionlint() -> Path:
    """Built once on a machine: some seconds."""
    return find((ACTIONLINT,))["actionlint"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actionlint_finds_nothing(actionlint: Path, file: Path):
    # Without shellcheck and pyflakes: a machine that has them must not find more than another.
    command = [actionlint, "-no-color", "-shellcheck=", "-pyflakes=", file]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_least_rights_and_nothing_that_can_change_unseen(file: Path):
    workflow = yaml.safe_load(file.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        if "packages" in job.get("permissions", {}):
            assert "tag" in job.get("if", "") or job["needs"] == ["publish"]
    uses = re.findall(r"uses: (.*)", file.read_text())
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
