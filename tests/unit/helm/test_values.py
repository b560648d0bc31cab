"""Values: all described, and a wrong one refused by name."""

import re
from pathlib import Path
from typing import Any

import pytest
from helm_python import HelmRenderError, HelmValuesError

from pipecat_gateway.middleware.connections import SPARE

ROOT = Path(__file__).parents[3]

GATEWAY = {"enabled": True, "auth": {"insecure": True}, "namespace": "calls"}
OPEN = {"definitions.kubernetes", "properties.bots.additionalProperties.properties.spec", "properties.global"}
"""Kubernetes' own to check, or Helm's."""


def schemas(at: Any, path: str = "") -> dict[str, dict[str, Any]]:
    """Every schema in a schema, by path."""
    found = {path.lstrip("."): at} if "type" in at or "$ref" in at else {}
    for word in ("properties", "definitions"):
        for name, below in at.get(word, {}).items():
            found |= schemas(below, f"{path}.{word}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(at.get(word), dict):
            found |= schemas(at[word], f"{path}.{word}")
    return found


def described(schema: dict[str, Any], below: str = "") -> dict[str, str]:
    """The description of every value, by its path."""
    found = {}
    for name, value in schema.get("properties", {}).items():
        found[below + name] = value.get("description", "")
        found |= described(value, f"{below}{name}.")
    return found


def paths(values: dict[str, Any], schema: dict[str, Any], below: str = "") -> set[str]:
    """The path of every value that is set, down to where names are the user's."""
    found = set()
    for name, value in values.items():
        found.add(below + name)
        inner = schema["properties"].get(name, {})
        if isinstance(value, dict) and "properties" in inner:
            found |= paths(value, inner, f"{below}{name}.")
    return found


def test_every_value_is_described_and_every_description_is_of_a_value(chart):
    told = described(chart.schema)
    assert told.keys() == paths(chart.values, chart.schema)
    assert [name for name, description in told.items() if not re.search(r"[.:]$", description)] == []


def test_no_object_takes_a_name_that_it_does_not_know(chart):
    objects = {path: schema for path, schema in schemas(chart.schema).items() if schema.get("type") == "object"}
    assert {path for path, schema in objects.items() if schema.get("additionalProperties", True) is True} == OPEN


def test_the_gateways_memory_fits_the_worst_that_its_limits_allow(chart):
    """By the sum in the guide."""
    limits, memory = chart.values["gateway"]["limits"], chart.values["gateway"]["resources"]["limits"]["memory"]
    worst_mb = 80 + 0.45 * limits["openRequests"] + 0.9 * limits["proxiedRequests"] + 0.1 * SPARE
    assert f"the default limits, {worst_mb:.0f} MB" in (ROOT / "docs" / "gateway.md").read_text()
    assert worst_mb * 1.2 < int(memory.removesuffix("Mi")) * 1.048576


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"oprator": {}}, "oprator"),
        ({"operator": {"replica": 3}}, "replica"),
        ({"gateway": {"ingress": {"hosts": ["a"]}}}, "hosts"),
        ({"daily": {"apiKey": "a-key"}}, "apiKey"),
        ({"operator": {"resources": {"limit": {}}}}, "limit"),
        ({"operator": {"affinity": {"podAffinty": {}}}}, "podAffinty"),
        ({"operator": {"replicas": "two"}}, "replicas"),
        ({"gateway": {"apiKeys": {"secret": "a"}}}, "secret"),
        ({"gateway": {"apiKeys": {"secretName": "A b"}}}, "secretName"),
        ({"gateway": {"limits": {"openRequests": 0}}}, "openRequests"),
        ({"log": {"level": "info"}}, "'DEBUG', 'INFO', 'WARNING', 'ERROR'"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"gateway": {"httpRoute": {"enabled": True}}}, "parentRefs"),
        ({"bots": {"assistant": {"spec": {}}}}, "namespace"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart, values, named):
    with pytest.raises(HelmValuesError, match=re.escape(named)):
        chart.render(values)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"gateway": {"enabled": True}}, r"gateway\.apiKeys\.secretName .* gateway\.auth\.insecure=true"),
        (
            {"gateway": {**GATEWAY, "apiKeys": {"secretName": "a"}}},
            r"gateway\.auth\.insecure: .* Leave one of them out",
        ),
        ({"gateway": {**GATEWAY, "namespace": ""}}, r"gateway\.namespace: say in which namespace"),
        ({"gateway": {**GATEWAY, "service": {"type": "LoadBalancer"}}}, r"gateway\.service\.type: .* authenticates"),
        (
            {"gateway": {**GATEWAY, "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}}},
            r"gateway\.autoscaling: minReplicas is above maxReplicas",
        ),
        (
            {"gateway": {**GATEWAY, "namespace": "pipecat-system"}},
            r"the Daily key in it\. Give the sessions another",
        ),
        (
            {"gateway": {**GATEWAY, "namespace": "b"}, "watchNamespaces": ["a"]},
            '"b": it is not in watchNamespaces',
        ),
        (
            {"bots": {"assistant": {"namespace": "b", "spec": {"image": "x"}}}, "watchNamespaces": ["a"]},
            r'bots\.assistant\.namespace: .* "b": it is not in watchNamespaces',
        ),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(chart, values, advice):
    with pytest.raises(HelmRenderError, match=advice):
        chart.render(values, name="pipecat", namespace="pipecat-system")


def test_the_notes_tell_how_to_make_a_key(chart, everything):
    def notes(values: dict[str, Any]) -> str:
        files = chart.render(values, name="pipecat", namespace="pipecat-system")
        (told,) = (text for path, text in files.items() if path.endswith("NOTES.txt"))
        return told

    told = notes(everything)
    assert "newkey --secret pipecat-api-keys --id web --public |" in told
    assert '--header "Authorization: Bearer YOUR-KEY"' in told
    told = notes({"gateway": GATEWAY})
    assert "newkey" not in told
    assert "It has no API keys: anybody who reaches it can do so" in told
