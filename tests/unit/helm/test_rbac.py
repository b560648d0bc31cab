"""The rights that the chart gives: those that the tests run with, and no more."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

Right = tuple[str, str, str, str]
"""Group, resource, name ("": any), verb."""

LOCAL = Path(__file__).parents[3] / "local" / "manifests" / "rbac.yaml"
NEVER_ASKED: dict[str, set[Right]] = {
    "pipecat-operator": {("pipecat.dev", "bots", "", "get")},
    "pipecat-gateway": {
        ("pipecat.dev", "botsessions", "", "get"),
        ("pipecat.dev", "bots", "", "list"),
        ("pipecat.dev", "bots", "", "watch"),
    },
}
"""Rights of the local manifests that neither program has a call for."""


def rights(objects: Iterable[dict[str, Any]], account: str) -> set[tuple[str, Right]]:
    """All that bindings give to that account: where ("" is everywhere), and what."""
    items = list(objects)
    roles = {
        (item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): item["rules"]
        for item in items
        if item["kind"] in ("Role", "ClusterRole")
    }
    found = set()
    for binding in items:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        (subject,) = binding["subjects"]
        assert subject["namespace"] == "pipecat-system"
        if subject["name"] != account:
            continue
        where = binding["metadata"].get("namespace")
        for rule in roles[binding["roleRef"]["kind"], where, binding["roleRef"]["name"]]:
            found |= {
                (where or "", (group, resource, name, verb))
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for name in rule.get("resourceNames", [""])
                for verb in rule["verbs"]
            }
    return found


def local(account: str) -> set[tuple[str, Right]]:
    """What the local manifests give, less what nobody asks for."""
    given = rights((item for item in yaml.safe_load_all(LOCAL.read_text()) if item), account)
    unused = {("", right) for right in NEVER_ASKED[account]}
    assert unused <= given
    return given - unused


def test_the_operators_rights_in_the_whole_cluster(render):
    assert rights(render(), "pipecat-operator") == local("pipecat-operator")


def test_the_operators_rights_in_the_namespaces_that_it_watches(render):
    given = rights(render({"watchNamespaces": ["a", "b"]}), "pipecat-operator")
    wanted = local("pipecat-operator")
    its_own = {(where, right) for where, right in wanted if where}
    assert given == its_own | {(where, right) for where in ("a", "b") for own, right in wanted if not own}


def test_the_gateways_rights_are_in_its_namespace_only(render, everything):
    given = rights(render(everything), "pipecat-gateway")
    assert given == {("sessions", right) for _, right in local("pipecat-gateway")}


def test_no_wildcard_and_no_right_for_anybody_else(render, everything):
    for values in ({}, everything):
        rendered = render(values)
        rules = [rule for item in rendered for rule in item.get("rules", ()) if "verbs" in rule]
        assert rules
        for rule in rules:
            assert not any("*" in part for parts in rule.values() for part in parts)
        accounts = {item["metadata"]["name"] for item in rendered if item["kind"] == "ServiceAccount"}
        bound = {subject["name"] for item in rendered for subject in item.get("subjects", ())}
        assert bound == accounts
        assert all(
            item["automountServiceAccountToken"] is False for item in rendered if item["kind"] == "ServiceAccount"
        )
