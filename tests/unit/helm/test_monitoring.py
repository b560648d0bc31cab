"""Dashboard and alerts ask for metrics that there are."""

import json
import re
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from pipecat_gateway.keys.ring import anyone
from pipecat_gateway.server import Server
from pipecat_gateway.settings import Settings
from pipecat_operator.conditions import EndReason, Phase
from pipecat_operator.metrics import Metrics

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"

LABELS = {
    "phase": set(Phase),
    "reason": set(EndReason),
    "outcome": {"no_answer", *(str(status.value) for status in HTTPStatus)},
}
"""What the labels that are looked for may hold; namespace and container are Prometheus' own."""


@pytest.fixture(scope="module")
def families() -> set[str]:
    """The metrics of operator and gateway, as they are scraped."""
    metrics = Metrics()
    metrics.watch_gauges(dict, lambda: 0, lambda: 0, lambda: 0)
    shown = metrics.text() + generate_latest(Server(Settings(), None, anyone)._registry)
    return {
        name for name in re.findall(r"^# HELP (\w+)", shown.decode(), re.MULTILINE) if not name.endswith("_created")
    }


@pytest.fixture(scope="module")
def alerts(render, everything):
    """The alert rules."""
    (rule,) = (item for item in render(everything) if item["kind"] == "PrometheusRule")
    (group,) = rule["spec"]["groups"]
    return group["rules"]


@pytest.fixture(scope="module")
def dashboard(render, everything):
    """Grafana's JSON."""
    (config,) = (item for item in render(everything) if "grafana_dashboard" in item["metadata"].get("labels", {}))
    return json.loads(config["data"]["pipecat.json"])


def asked(expression: str) -> set[str]:
    """The families of the metrics in an expression."""
    names = re.findall(r"\b((?:pipecat|process)_\w+)", expression)
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def test_alerts_ask_for_metrics_that_there_are_and_say_what_to_do(alerts, families):
    assert len(alerts) > 5
    for alert in alerts:
        assert asked(alert["expr"])
        assert asked(alert["expr"]) <= families
        assert len(alert["annotations"]["summary"].split(". ")) > 1, "what is wrong, and what to do"
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_alerts_and_dashboard_look_for_values_that_there_are(alerts, dashboard):
    asking = [alert["expr"] for alert in alerts]
    asking += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    matchers = re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', "\n".join(asking))
    assert {label for label, _ in matchers} == {*LABELS, "namespace", "container"}
    for label, value in matchers:
        for choice in value.split("|") if label in LABELS else ():
            assert any(re.fullmatch(choice, known) for known in LABELS[label]), f"{label}={choice}"


def test_what_the_documentation_alerts_on_has_an_alert(alerts):
    section = OPERATIONS.read_text().split("## What to alert on")[1].split("##")[0]
    told = {name for row in section.splitlines() for name in asked(row.split("|")[1] if "|" in row else "")}
    assert len(told) > 5
    assert told <= {name for alert in alerts for name in asked(alert["expr"])}


def test_the_dashboard_asks_for_metrics_that_there_are(dashboard, families):
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
    for expression in expressions:
        assert asked(expression)
        assert asked(expression) <= families
    # All that the two tell is on it, save what the process itself is about.
    shown = {name for expression in expressions for name in asked(expression)}
    assert {name for name in families - shown if name.startswith("pipecat_")} == {
        "pipecat_daily_clock_ahead_seconds",
        "pipecat_tasks",
    }


@pytest.mark.parametrize(
    ("monitor", "endpoints"), [("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")]
)
def test_monitors_find_operator_and_gateway(render, everything, monitor, endpoints):
    rendered = render({**everything, "metrics": {"monitor": monitor}})
    monitors = [item for item in rendered if item["kind"] == monitor]
    assert len(monitors) == 2
    scraped = "Service" if monitor == "ServiceMonitor" else "Deployment"
    for item in monitors:
        wanted = item["spec"]["selector"]["matchLabels"].items()
        labelled = [
            other["metadata"]["name"]
            for other in rendered
            if other["kind"] == scraped
            for labels in [other["spec"].get("template", other)["metadata"]["labels"]]
            if wanted <= labels.items()
        ]
        assert labelled == [item["metadata"]["name"]]
        assert [endpoint["port"] for endpoint in item["spec"][endpoints]] == ["http"]
