"""Who reaches whom."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipecat_operator import names


@dataclass(frozen=True)
class Pod:
    """One to be reached, by the network's plain view of it."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


GATEWAY = {"enabled": True, "auth": {"insecure": True}, "namespace": "default"}
RELEASES = {"matchLabels": {"kubernetes.io/metadata.name": "pipecat-system"}}
"""Without a selector of namespaces a peer is in the policy's own; only those of the release's namespace have such."""
BOT = Pod("default", {names.LABEL_SESSION: "uid"})
DNS = [Pod("kube-system", {"k8s-app": "kube-dns"}), Pod("kube-system", {"k8s-app": "node-local-dns"}), "169.254.20.10"]
"""What answers: CoreDNS, NodeLocal DNSCache as a pod, NodeLocal DNSCache by its address."""
ANY_PORTS = [("UDP", 3478), ("UDP", 7882), ("UDP", 49152), ("TCP", 443), ("TCP", 30000)]
"""Calls are UDP, at whatever port Daily's media servers have."""


@pytest.fixture(scope="module")
def policies(render):
    """By namespace and name, for an installation with a gateway."""
    return made(render({"gateway": GATEWAY}))


def made(rendered: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The policies in it, by namespace and name."""
    found = [item for item in rendered if item["kind"] == "NetworkPolicy"]
    return {(item["metadata"]["namespace"], item["metadata"]["name"]): item["spec"] for item in found}


def reaches(policy: dict[str, Any], there: str | Pod, port: int, protocol: str = "TCP") -> bool:
    """Whether egress to that address or pod is allowed, as Kubernetes reads a policy."""
    return any(
        _carries(rule, port, protocol) and ("to" not in rule or any(_is(peer, there) for peer in rule["to"]))
        for rule in policy["egress"]
    )


def _carries(rule: dict[str, Any], port: int, protocol: str) -> bool:
    """No ports: all of them, of every protocol."""
    return "ports" not in rule or any(
        allowed.get("protocol", "TCP") == protocol
        and allowed.get("port", port) <= port <= allowed.get("endPort", allowed.get("port", port))
        for allowed in rule["ports"]
    )


def _is(peer: dict[str, Any], there: str | Pod) -> bool:
    if isinstance(there, Pod):
        place = {"kubernetes.io/metadata.name": there.namespace}
        return (
            "ipBlock" not in peer
            and _selects(peer.get("namespaceSelector", RELEASES), place)
            and _selects(peer.get("podSelector", {}), there.labels)
        )
    if "ipBlock" not in peer:
        return False
    block, ip = peer["ipBlock"], ipaddress.ip_address(there)
    out = any(ip in ipaddress.ip_network(but) for but in block.get("except", ()))
    return ip in ipaddress.ip_network(block["cidr"]) and not out


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        wanted["key"] in labels and (wanted["operator"] == "Exists" or labels[wanted["key"]] in wanted["values"])
        for wanted in selector.get("matchExpressions", ())
    )


@pytest.mark.parametrize("address", ["10.96.0.1", "172.31.0.2", "192.168.1.1", "169.254.169.254", "fd00:ec2::254"])
def test_a_bot_reaches_the_internet_and_nothing_private(policies, address):
    bots = policies["default", "pipecat-bots"]
    for protocol, port in ANY_PORTS:
        assert reaches(bots, "1.1.1.1", port, protocol)
        assert reaches(bots, "2606:4700::1111", port, protocol)
        assert not reaches(bots, address, port, protocol)
        assert not reaches(bots, BOT, port, protocol)


@pytest.mark.parametrize("name", ["operator", "gateway", "bots", "test"])
def test_everybody_reaches_dns_and_nothing_else_beside_it(policies, name):
    policy = policies["default" if name == "bots" else "pipecat-system", f"pipecat-{name}"]
    for there in DNS:
        assert reaches(policy, there, 53, "UDP")
        assert reaches(policy, there, 53, "TCP")
        assert not reaches(policy, there, 54, "UDP")
        assert not reaches(policy, there, 8080)
    assert not reaches(policy, Pod("kube-system", {"k8s-app": "other"}), 53, "UDP")
    assert not reaches(policy, Pod("default", {"k8s-app": "kube-dns"}), 53, "UDP")


def test_dns_may_be_elsewhere(render):
    openshift = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}
    policy = made(render({"networkPolicy": {"dns": {"peers": [openshift], "ports": [5353]}}}))
    for there, answers in ((Pod("openshift-dns"), True), (DNS[0], False)):
        for protocol in ("UDP", "TCP"):
            assert reaches(policy["pipecat-system", "pipecat-operator"], there, 5353, protocol) == answers


def test_the_gateway_reaches_the_bots_port_only(policies):
    gateway = policies["pipecat-system", "pipecat-gateway"]
    assert reaches(gateway, BOT, names.PORT)
    assert not reaches(gateway, BOT, names.PORT, "UDP")
    assert not reaches(gateway, BOT, names.PORT + 1)
    assert not reaches(gateway, Pod("default", {"app": "other"}), names.PORT)
    assert not reaches(gateway, Pod("other", BOT.labels), names.PORT)


def test_a_bot_is_reached_by_the_gateway_only(policies):
    bots = policies["default", "pipecat-bots"]
    assert bots["podSelector"]["matchExpressions"] == [{"key": names.LABEL_SESSION, "operator": "Exists"}]
    assert set(bots["policyTypes"]) == {"Ingress", "Egress"}
    (rule,) = bots["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": names.PORT}]
    (peer,) = rule["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "pipecat-system"}
    assert peer["podSelector"] == policies["pipecat-system", "pipecat-gateway"]["podSelector"]


def test_the_operator_reaches_api_server_and_daily_only(render):
    values = {"networkPolicy": {"apiServer": {"cidrs": ["10.96.0.1/32"]}}}
    policy = made(render(values))["pipecat-system", "pipecat-operator"]
    assert reaches(policy, "10.96.0.1", 443)
    assert reaches(policy, "10.96.0.1", 6443)
    assert reaches(policy, "1.1.1.1", 443)
    assert not reaches(policy, "1.1.1.1", 443, "UDP")
    assert not reaches(policy, "1.1.1.1", 80)
    assert not reaches(policy, "1.1.1.1", 6443)
    assert not reaches(policy, "10.96.0.2", 443)
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]


def test_the_gateway_does_not_reach_the_internet(render):
    values = {
        "gateway": GATEWAY,
        "networkPolicy": {"apiServer": {"cidrs": ["10.96.0.1/32"]}},
    }
    policy = made(render(values))["pipecat-system", "pipecat-gateway"]
    assert reaches(policy, "10.96.0.1", 443)
    assert not reaches(policy, "1.1.1.1", 443)
    assert not reaches(policy, "1.1.1.1", 3478, "UDP")


def test_without_the_api_servers_address_its_ports_are_open(policies):
    for name in ("operator", "gateway"):
        policy = policies["pipecat-system", f"pipecat-{name}"]
        for port in (443, 6443):
            assert reaches(policy, "10.96.0.1", port)
            assert reaches(policy, "1.1.1.1", port)
        assert not reaches(policy, "1.1.1.1", 80)


def test_the_charts_own_test_is_let_in(render, everything):
    rendered = render(everything)
    (pod,) = (item for item in rendered if item["kind"] == "Pod")
    for (namespace, name), policy in made(rendered).items():
        if namespace == "pipecat-system" and name != pod["metadata"]["name"]:
            (rule,) = policy["ingress"]
            selectors = [peer["podSelector"]["matchLabels"].items() for peer in rule["from"]]
            assert any(selector <= pod["metadata"]["labels"].items() for selector in selectors)


def test_the_charts_own_test_reaches_operator_and_gateway_and_nobody_reaches_it(render, policies):
    policy = policies["pipecat-system", "pipecat-test"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in policy
    for item in render({"gateway": GATEWAY}):
        if item["kind"] == "Deployment":
            template = item["spec"]["template"]
            (port,) = template["spec"]["containers"][0]["ports"]
            there = Pod("pipecat-system", template["metadata"]["labels"])
            assert reaches(policy, there, port["containerPort"])
            assert not reaches(policy, there, 443)
    assert not reaches(policy, BOT, names.PORT)
    assert not reaches(policy, "1.1.1.1", 443)


def test_policies_select_the_pods_they_are_about(render, policies):
    rendered = render({"gateway": GATEWAY})
    for item in rendered:
        if item["kind"] == "Deployment":
            labels = item["spec"]["template"]["metadata"]["labels"]
            selector = policies["pipecat-system", item["metadata"]["name"]]["podSelector"]["matchLabels"]
            assert selector.items() <= labels.items()


def test_the_notes_warn_while_every_pod_reaches_the_gateway(chart):
    def notes(**gateway: Any) -> str:
        values = {"gateway": GATEWAY, "networkPolicy": {"gateway": gateway}}
        files = chart.render(values, name="pipecat", namespace="pipecat-system")
        return next(text for path, text in files.items() if path.endswith("NOTES.txt"))

    assert "let networkPolicy.gateway.ingressFrom name" in notes()
    assert "ingressFrom" not in notes(ingressFrom=[{"podSelector": {}}])
