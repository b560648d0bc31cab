"""A bot's pod has no credentials, and the account that it runs as has no rights."""

import json
from pathlib import Path
from typing import Any, Final

from support.gateway import gateway_account
from support.operated import Operated

ANYBODYS: Final = {
    *("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"),  # who am I, and what may I?
    "clustertrustbundles",  # certificates that are public
}
"""What Kubernetes gives to every service account."""


def rules(operated: Operated, kubeconfig: Path) -> dict[str, Any]:
    """What that account may do in the namespace, as the API server tells it."""
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": operated.namespace},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = operated.cluster.kubectl(
        "create", "--raw", path, "-f", "-", stdin=json.dumps(asked), kubeconfig=kubeconfig
    )
    status: dict[str, Any] = json.loads(answer)["status"]
    return status


def resources(status: dict[str, Any]) -> set[str]:
    """Those that there is any right on."""
    assert not status["incomplete"]
    return {resource for rule in status["resourceRules"] for resource in rule["resources"]}


def test_a_bot_has_no_rights(operated: Operated):
    """The chart's operator and gateway are installed for its namespace, and nothing of theirs is its own."""
    gateway = gateway_account(operated)
    operated.session()
    operated.until_phase("Running")
    (pod,) = operated.items("pods")
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    sources = [source for volume in spec["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    assert [source for source in sources if "serviceAccountToken" in source] == []
    mounts = [mount["mountPath"] for container in spec["containers"] for mount in container["volumeMounts"]]
    assert [path for path in mounts if path.startswith("/var/run/secrets")] == []

    assert spec["serviceAccountName"] == "default"
    its_own = operated.cluster.kubeconfig_for_service_account(operated.namespace, "default")
    may = rules(operated, its_own)
    assert resources(may) == ANYBODYS
    assert {verb for rule in may["nonResourceRules"] for verb in rule["verbs"]} == {"get"}
    assert "secrets" in resources(rules(operated, gateway.kubeconfig())), "the question is answered"
