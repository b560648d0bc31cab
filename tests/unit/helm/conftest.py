"""The chart, rendered by Helm's own engine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

Object = dict[str, Any]
Render = Callable[..., list[Object]]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "pipecat-operator"


@pytest.fixture(scope="session")
def chart() -> Iterator[Chart]:
    """The chart, loaded."""
    with Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def render(chart: Chart) -> Render:
    """What a release of the chart holds, as objects, its test's pod among them."""

    def objects(values: Object | None = None, name: str = "pipecat") -> list[Object]:
        files = chart.render(values, name=name, namespace="pipecat-system")
        texts = [text for path, text in files.items() if not path.endswith(".txt")]
        return [document for text in texts for document in yaml.load_all(text, yaml.CSafeLoader) if document]

    return objects


@pytest.fixture(scope="session")
def everything() -> Object:
    """Values with every toggle on."""
    peers = [{"podSelector": {"matchLabels": {"a": "b"}}}]
    rules = [{"to": peers}]
    placement = {
        "priorityClassName": "high",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    return {
        "image": {"registry": "r.example/team", "digest": f"sha256:{'0' * 64}", "pullSecrets": ["pull"]},
        "watchNamespaces": ["sessions", "more"],
        "operator": {"installationId": "one", **placement},
        "gateway": {
            "enabled": True,
            "apiKeys": {"secretName": "pipecat-api-keys"},
            "namespace": "sessions",
            "corsOrigins": ["*"],
            "autoscaling": {"enabled": True},
            "service": {"type": "LoadBalancer", "annotations": {"a": "b"}},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "annotations": {"a": "b"},
                "host": "bots.example",
                "tlsSecret": "tls",
            },
            "httpRoute": {
                "enabled": True,
                "annotations": {"a": "b"},
                "parentRefs": [{"name": "web"}],
                "hostnames": ["bots.example"],
            },
            **placement,
        },
        "bots": {"assistant": {"namespace": "sessions", "spec": {"image": "pipecat-bot"}}},
        "networkPolicy": {
            "apiServer": {"cidrs": ["10.0.0.1/32"]},
            "operator": {"ingressFrom": peers, "extraEgress": rules},
            "gateway": {"ingressFrom": peers, "extraEgress": rules},
            "bots": {"namespaces": ["third"], "extraIngress": [{"from": peers}], "extraEgress": rules},
        },
        "metrics": {"monitor": "PodMonitor", "alerts": True, "labels": {"release": "prometheus"}, "dashboard": True},
    }
