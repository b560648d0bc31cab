"""The chart: kube-score finds nothing but what is argued here.

Their fields are checked against Kubernetes' own schemas, offline, in tests/unit/helm, which has ``helm lint`` too.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from pipecat_local.assets import find
from pipecat_local.linters import KUBE_SCORE

ROOT = Path(__file__).parents[3]
KUBERNETES = "v1.31"
"""The oldest that Chart.yaml allows."""
PASSED = 10

EXCEPTIONS = {
    "container-image-pull-policy": "A version's or digest's image is the same at every pull; to pull each time would "
    "make every start wait for the registry.",
    "container-security-context-user-group-id": "The image's user is 65532, and runAsNonRoot sees to it; a "
    "number here would be refused where the cluster gives each namespace its own, as OpenShift does.",
    "container-resources": "No CPU limit: a throttled leader loses its Lease, and starts wait. Memory has one.",
    "container-ephemeral-storage-request-and-limit": "Nothing is written: the root is read-only, there are no volumes.",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints spread over nodes, and zones too.",
}
"""Of every pod of the chart."""
OF_ONE = {
    ("networkpolicy-targets-pod", "pipecat-bots"): "Bots come later: the operator makes their pods.",
}

GATEWAY = {
    "gateway": {
        "enabled": True,
        "auth": {"insecure": True},
        "namespace": "calls",
        "autoscaling": {"enabled": True},
        "ingress": {"enabled": True, "host": "bots.example", "tlsSecret": "tls"},
    }
}
PRODUCTION = yaml.safe_load((ROOT / "examples" / "values-production.yaml").read_text())


@pytest.fixture(scope="module")
def kube_score() -> Path:
    """Built once on a machine: under a minute of CPU."""
    return find((KUBE_SCORE,))["kube-score"]


def findings(kube_score: Path, values: dict[str, Any]) -> set[tuple[str, str]]:
    """Each check that something did not pass, and that thing's name."""
    with Chart.load(ROOT / "helm" / "pipecat-operator") as chart:
        files = chart.render(values, name="pipecat", namespace="pipecat-system")
    rendered = "\n---\n".join(text for path, text in files.items() if not path.endswith(".txt"))
    command = [kube_score, "score", "--kubernetes-version", KUBERNETES, "--output-format", "json", "-"]
    # It exits 1 where it finds anything.
    ran = subprocess.run(command, input=rendered, capture_output=True, text=True, check=False)
    scored = json.loads(ran.stdout)
    assert {"Deployment", "Service", "NetworkPolicy"} <= {item["type_meta"]["kind"] for item in scored}
    return {
        (check["check"]["id"], item["object_meta"]["name"])
        for item in scored
        for check in item["checks"]
        if not check["skipped"] and check["grade"] < PASSED
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("values", [{}, GATEWAY, PRODUCTION], ids=["defaults", "gateway", "production"])
def test_kube_score_finds_nothing_that_is_not_argued(kube_score: Path, values: dict[str, Any]):
    found = findings(kube_score, values)
    assert {(check, name) for check, name in found if check not in EXCEPTIONS} - OF_ONE.keys() == set()
    assert EXCEPTIONS.keys() <= {check for check, _ in found}, "argued, but no longer found"
