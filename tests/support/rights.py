"""The operator as a service account with Roles, namespace by namespace."""

import json
from pathlib import Path
from typing import Any

import yaml

from support.operated import Operated

RBAC = Path(__file__).parents[2] / "local" / "manifests" / "rbac.yaml"
ACCOUNT = "operator"


def limited_account(operated: Operated, without: tuple[str, str]) -> Path:
    """The kubeconfig of a service account with every right the operator needs there, save one verb on one resource."""
    operated.kubectl("create", "serviceaccount", ACCOUNT)
    grant(operated, operated.namespace, without)
    return operated.cluster.kubeconfig_for_service_account(operated.namespace, ACCOUNT)


def grant(operated: Operated, namespace: str, without: tuple[str, str] | None = None) -> None:
    """Give that account of the operator's namespace its rights in ``namespace``."""
    rules = [
        {**rule, "resources": [resource], "verbs": [verb for verb in rule["verbs"] if (verb, resource) != without]}
        for rule in _rules()
        for resource in rule["resources"]
    ]
    name = "limited" if without else "all"
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
    cluster = operated.cluster
    cluster.kubectl("create", "--namespace", namespace, "-f", "-", stdin=json.dumps(role))
    account = f"--serviceaccount={operated.namespace}:{ACCOUNT}"
    cluster.kubectl("create", "--namespace", namespace, "rolebinding", name, f"--role={name}", account)


def _rules() -> list[dict[str, Any]]:
    """All that the operator's ClusterRole and Role hold."""
    documents = [document for document in yaml.safe_load_all(RBAC.read_text()) if document]
    rules = [rule for d in documents if d["metadata"]["name"] == "pipecat-operator" for rule in d.get("rules", ())]
    return [{key: value for key, value in rule.items() if key != "resourceNames"} for rule in rules]
