"""The GitHub Actions workflow: actionlint finds nothing, nor do the rules that it has no word for."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helm_python import Chart

from pipecat_local import images
from pipecat_local.assets import find
from pipecat_local.linters import ACTIONLINT

ROOT = Path(__file__).parents[3]
READ = {"contents": "read"}
PUBLISH = {"contents": "read", "packages": "write"}
PUBLISHERS = {"publish", "chart"}
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
    # YAML takes "on" for True. A pull_request_target would run a stranger's code with our rights.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == READ
    assert workflow["concurrency"]["group"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"]
        assert job.get("permissions", READ) == (PUBLISH if name in PUBLISHERS else READ)
        if name in PUBLISHERS:
            assert job["if"] == "github.ref_type == 'tag'"
            assert job["needs"]
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
            if name not in PUBLISHERS:
                assert "secrets." not in str(step)
    assert workflow["jobs"].keys() >= PUBLISHERS
    uses = re.findall(r"uses: (.*)", file.read_text())
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


def test_the_charts_own_tests_are_run_where_docker_is():
    (kind,) = (yaml.safe_load(file.read_text())["jobs"]["kind"] for file in WORKFLOWS)
    ran = "\n".join(step.get("run", "") for step in kind["steps"])
    assert "PIPECAT_E2E_KUBECONFIG=" in ran
    assert "tests/e2e/cluster" in ran
    assert all(image.name in ran for image in images.TEST_IMAGES)


def test_a_published_chart_knows_its_image(tmp_path: Path):
    copy, digest = tmp_path / "pipecat-operator", f"sha256:{'1' * 64}"
    shutil.copytree(ROOT / "helm" / "pipecat-operator", copy)
    (publish,) = (yaml.safe_load(file.read_text())["jobs"]["chart"] for file in WORKFLOWS)
    assert ".ci/name-images helm/pipecat-operator " in publish["steps"][-1]["run"]
    command = [ROOT / ".ci" / "name-images", copy, "r.example/us/ours"]
    subprocess.run([*command, digest], check=True)
    with Chart.load(copy) as chart:
        files = chart.render({}, name="pipecat", namespace="pipecat-system")
    text = "\n".join(text for path, text in files.items() if path.endswith("operator.yaml"))
    assert f'image: "r.example/us/ours/pipecat-operator@{digest}"' in text
    # Values that are no longer as it expects them are an error, not a chart without an image.
    assert subprocess.run([*command, f"sha256:{'2' * 64}"], check=False).returncode != 0
