"""Every file in examples/ is what the real API server takes; a new one there is tested without being named here."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from pipecat_local.controlplane import Cluster
from pipecat_operator.api import Bot, BotSession, resolve_limits
from pipecat_operator.job import job_manifest, room_expiry, secret_manifest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
MANIFESTS = sorted(file for file in EXAMPLES.glob("*.yaml") if not file.name.startswith("values-"))
VALUES = sorted(EXAMPLES.glob("values-*.yaml"))
OTHERS = ("monitoring.coreos.com/",)
"""Kinds that Prometheus' operator brings, not Kubernetes."""


def named(file: Path) -> str:
    """For a test's id."""
    return file.name


def apply(cluster: Cluster, namespace: str, manifest: Any, *flags: str) -> str:
    """Server-side, where a field that isn't there is an error."""
    strict = ["apply", "--server-side", "--validate=strict", *flags]
    return cluster.kubectl("--namespace", namespace, *strict, "--filename", "-", stdin=json.dumps(manifest))


def test_nothing_is_left_out():
    found = {file for file in EXAMPLES.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert found == {*MANIFESTS, *VALUES, EXAMPLES / "bot" / "bot.py", EXAMPLES / "bot" / "Dockerfile"}


@pytest.mark.parametrize("file", MANIFESTS, ids=named)
def test_a_manifest_is_applied_and_kept_as_it_is(cluster: Cluster, namespace: str, file: Path):
    (wanted,) = yaml.safe_load_all(file.read_text())
    assert "serverside-applied" in apply(cluster, namespace, wanted)
    name = wanted["metadata"]["name"]
    kept = json.loads(cluster.kubectl("--namespace", namespace, "get", wanted["kind"], name, "--output", "json"))
    assert {field: kept["spec"][field] for field in wanted["spec"]} == wanted["spec"]


@pytest.mark.parametrize("session", [f for f in MANIFESTS if "kind: BotSession" in f.read_text()], ids=named)
@pytest.mark.parametrize("bot", [f for f in MANIFESTS if "kind: Bot\n" in f.read_text()], ids=named)
def test_secret_and_job_of_a_session_are_made(cluster: Cluster, namespace: str, bot: Path, session: Path):
    """As the operator makes them, whichever of the sessions with whichever Bot."""
    now = datetime.now(UTC)
    objects = [yaml.safe_load(file.read_text()) for file in (bot, session)]
    for item in objects:
        item["metadata"] |= {"namespace": namespace, "uid": "0", "creationTimestamp": now.isoformat()}
    the_bot, the_session = Bot.model_validate(objects[0]), BotSession.model_validate(objects[1])
    limits = resolve_limits(the_session, the_bot)
    job = job_manifest(the_session, the_bot, limits, room_expiry(limits, now), now)
    secret = secret_manifest(the_session, "https://example.test/room", "bot", "user")
    for made in (secret, job):
        assert "serverside-applied" in apply(cluster, namespace, made, "--dry-run=server")


@pytest.mark.parametrize("file", VALUES, ids=named)
def test_values_give_a_chart_that_the_api_server_takes(cluster: Cluster, namespace: str, file: Path):
    """Dry: CRDs and ClusterRoles are everybody's. All of it in the test's namespace, for others would have to exist."""
    with Chart.load(ROOT / "helm" / "pipecat-operator") as chart:
        files = chart.render(yaml.safe_load(file.read_text()), name="pipecat", namespace="pipecat-system")
    texts = [text for path, text in files.items() if not path.endswith(".txt")]
    objects = [item for text in texts for item in yaml.safe_load_all(text) if item]
    assert {"Deployment", "NetworkPolicy", "ServiceAccount"} <= {item["kind"] for item in objects}
    for item in objects:
        if item["apiVersion"].startswith(OTHERS) or item["kind"] == "CustomResourceDefinition":
            continue
        if "namespace" in item["metadata"]:
            item["metadata"]["namespace"] = namespace
        assert "serverside-applied" in apply(cluster, namespace, item, "--dry-run=server")
