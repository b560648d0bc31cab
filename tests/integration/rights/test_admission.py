"""What RBAC can't say of the gateway's rights, the chart's admission policy does."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from support.raw_api import RawApi
from support.rights import GATEWAY, admission, install

IN_FORCE_S = 20.0
OWNER = {"apiVersion": "pipecat.dev/v1alpha1", "kind": "BotSession", "name": "s", "uid": "1"}
SECRET: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "made", "ownerReferences": [OWNER]},
    "type": "Opaque",
}
TOKEN_OF_ANY = {
    "metadata": {
        "name": "made",
        "annotations": {"kubernetes.io/service-account.name": "default"},
        "ownerReferences": [OWNER],
    },
    "type": "kubernetes.io/service-account-token",
}
OTHERS = [
    TOKEN_OF_ANY,
    {"metadata": {"name": "made"}},
    {"metadata": {"name": "made", "ownerReferences": [OWNER | {"kind": "Pod", "apiVersion": "v1"}]}},
    {"metadata": {"name": "made", "ownerReferences": [OWNER | {"apiVersion": "v1"}]}},
    {"metadata": {"name": "made", "ownerReferences": [OWNER, OWNER | {"uid": "2"}]}},
]


@pytest.fixture
def as_gateway(cluster: Cluster, namespace: str) -> Iterator[RawApi]:
    """The API server as the gateway of a release in that namespace sees it, the policy in force."""
    account = install(cluster, GATEWAY, namespace, [namespace])
    with closing(RawApi(cluster)) as admin, closing(RawApi(cluster, account.token)) as api:
        root = "/apis/admissionregistration.k8s.io/v1"
        policy, binding = admission(namespace, namespace)
        for kind, thing in (("policies", policy), ("policybindings", binding)):
            code, said = admin("POST", f"{root}/validatingadmission{kind}", thing)
            assert code == 201, said
        yield api
        for kind, thing in (("policybindings", binding), ("policies", policy)):
            admin("DELETE", f"{root}/validatingadmission{kind}/{thing['metadata']['name']}")


def test_the_gateway_makes_secrets_of_sessions_only(as_gateway: RawApi, namespace: str):
    path = f"/api/v1/namespaces/{namespace}/secrets"
    # A policy takes a moment to be in force.
    wait_until("the policy", lambda: as_gateway("POST", path, SECRET | TOKEN_OF_ANY)[0] == 403, IN_FORCE_S)
    for other in OTHERS:
        code, said = as_gateway("POST", path, SECRET | other | {"metadata": other["metadata"] | {"name": "other"}})
        assert (code, said["reason"]) == (403, "Forbidden")
        assert "the gateway makes Secrets of BotSessions only" in said["message"]
    assert as_gateway("POST", path, SECRET | {"metadata": SECRET["metadata"] | {"name": "good"}})[0] == 201


def test_nobody_else_is_held_to_it(as_gateway: RawApi, cluster: Cluster, namespace: str):
    path = f"/api/v1/namespaces/{namespace}/secrets"
    wait_until("the policy", lambda: as_gateway("POST", path, SECRET | TOKEN_OF_ANY)[0] == 403, IN_FORCE_S)
    cluster.kubectl("create", "secret", "generic", "mine", "--namespace", namespace)
