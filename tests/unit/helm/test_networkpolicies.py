"""Who reaches whom."""

import ipaddress
from typing import Any

import pytest

from pipecat_operator import names


@pytest.fixture(scope="module")
def policies(render):
    """By namespace and name, for an installation with a gateway."""
    rendered = render({"gateway": {"enabled": True, "auth": {"insecure": True}}})
    made = [item for item in rendered if item["kind"] == "NetworkPolicy"]
    return {(item["metadata"]["namespace"], item["metadata"]["name"]): item["spec"] for item in made}


def reaches(policy: dict[str, Any], address: str, port: int) -> bool:
    """Whether egress to that address and TCP port is allowed."""
    ip = ipaddress.ip_address(address)
    for rule in policy["egress"]:
        if "ports" in rule and port not in [allowed["port"] for allowed in rule["ports"]]:
            continue
        if "to" not in rule:
            return True
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            inside = ip in ipaddress.ip_network(block["cidr"])
            if inside and not any(ip in ipaddress.ip_network(but) for but in block.get("except", ())):
                return True
    return False


@pytest.mark.parametrize("address", ["10.96.0.1", "172.31.0.2", "192.168.1.1", "169.254.169.254", "fd00:ec2::254"])
def test_a_bot_reaches_the_internet_and_nothing_private(policies, address):
    bots = policies["default", "pipecat-bots"]
    assert reaches(bots, "1.1.1.1", 443)
    assert reaches(bots, "2606:4700::1111", 30000)
    assert not reaches(bots, address, 443)
    assert not reaches(bots, address, 80)


def test_a_bot_is_reached_by_the_gateway_only(policies):
    bots = policies["default", "pipecat-bots"]
    assert bots["podSelector"]["matchExpressions"] == [{"key": names.LABEL_SESSION, "operator": "Exists"}]
    (rule,) = bots["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": names.PORT}]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "pipecat-system"}
    assert peer["podSelector"] == policies["pipecat-system", "pipecat-gateway"]["podSelector"]


def test_the_operator_reaches_api_server_and_daily_only(render):
    values = {"networkPolicy": {"apiServer": {"cidrs": ["10.96.0.1/32"]}}}
    (policy,) = (item["spec"] for item in render(values) if item["kind"] == "NetworkPolicy")
    assert reaches(policy, "10.96.0.1", 443)
    assert reaches(policy, "1.1.1.1", 443)
    assert not reaches(policy, "1.1.1.1", 80)
    assert not reaches(policy, "10.96.0.2", 443)
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]


def test_the_gateway_does_not_reach_the_internet(render):
    values = {
        "gateway": {"enabled": True, "auth": {"insecure": True}},
        "networkPolicy": {"apiServer": {"cidrs": ["10.96.0.1/32"]}},
    }
    (policy,) = (
        item["spec"]
        for item in render(values)
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "pipecat-gateway"
    )
    assert reaches(policy, "10.96.0.1", 443)
    assert not reaches(policy, "1.1.1.1", 443)


def test_the_charts_own_test_is_let_in(render, everything):
    rendered = render(everything)
    (pod,) = (item for item in rendered if item["kind"] == "Pod")
    for item in rendered:
        if item["kind"] == "NetworkPolicy" and item["metadata"]["namespace"] == "pipecat-system":
            (rule,) = item["spec"]["ingress"]
            selectors = [peer["podSelector"]["matchLabels"].items() for peer in rule["from"]]
            assert any(selector <= pod["metadata"]["labels"].items() for selector in selectors)


def test_policies_select_the_pods_they_are_about(render, policies):
    rendered = render({"gateway": {"enabled": True, "auth": {"insecure": True}}})
    for item in rendered:
        if item["kind"] == "Deployment":
            labels = item["spec"]["template"]["metadata"]["labels"]
            selector = policies["pipecat-system", item["metadata"]["name"]]["podSelector"]["matchLabels"]
            assert selector.items() <= labels.items()
