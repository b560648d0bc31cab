"""Operator and gateway as the chart's own service accounts, with the rights that the chart gives and no more."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import kopf
import yaml
from helm_python import Chart

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from support.raw_api import RawApi

Object = dict[str, Any]

CHART: Final = Path(__file__).parents[2] / "helm" / "pipecat-operator"
OPERATOR: Final = "operator"
GATEWAY: Final = "gateway"
"""Components of the chart."""

RELEASE: Final = "the-release"
NAMESPACE: Final = "the-namespace"
WATCHED: Final = "the-watched"
"""In what is rendered, for the release's name, its namespace, and one that it watches."""

DAY_S: Final = 24 * 60 * 60
BINDS_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource, in one of the chart's roles."""

    role: str
    group: str
    resource: str
    verb: str
    name: str = ""
    """Of the one object; else all."""

    def __str__(self) -> str:
        return f"{self.role}: {self.verb} {self.resource}"

    @property
    def refusal(self) -> str:
        """How the API server refuses whoever lacks it."""
        return f'cannot {self.verb} resource "{self.resource}" in API group "{self.group}"'


@dataclass(frozen=True, slots=True)
class Account:
    """A service account."""

    cluster: Cluster
    namespace: str
    name: str
    token: str = field(repr=False)

    def login(self) -> kopf.ConnectionInfo:
        """Its credentials."""
        return replace(self.cluster.login(), token=self.token, default_namespace=self.namespace)

    def kubeconfig(self) -> Path:
        """The same, in a file."""
        config = json.loads(self.cluster.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": self.token}
        config["contexts"][0]["context"]["namespace"] = self.namespace
        file = self.cluster.folder / f"{self.namespace}.{self.name}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        return file


def rights_of(component: str) -> list[Right]:
    """Every single one that the chart gives."""
    return [right for thing in _rendered(component) for right in _rights(thing)]


def install(
    cluster: Cluster,
    component: str,
    namespace: str,
    watched: Sequence[str],
    release: str | None = None,
    without: Right | None = None,
) -> Account:
    """The account of that component, its rights in force; in place of those of an earlier install.

    ``namespace``: of the release, which has its name if it is not told another; ``watched``: none is the whole cluster;
    ``without``: save that one right.
    """
    assert without is None or without in rights_of(component), f"the chart does not give {without}"
    things = list(_objects(component, namespace, watched, release or namespace, without))
    account = things[0]["metadata"]["name"]
    with closing(RawApi(cluster)) as api:
        for thing in things:
            _put(api, thing)
        for thing in things:
            for right in _rights(thing)[:1]:
                user, where = f"system:serviceaccount:{namespace}:{account}", thing["metadata"].get("namespace", "")
                wait_until(f"{right} of {user}", lambda r=right, u=user, w=where: _may(api, u, w, r), BINDS_S, 0.01)
        wanted = {"spec": {"expirationSeconds": DAY_S}}
        code, made = api("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", wanted)
        assert code == 201, made
    return Account(cluster, namespace, account, made["status"]["token"])


def admission(namespace: str, release: str) -> list[Object]:
    """The chart's admission policy, and what puts it in force."""
    text = json.dumps(_template("admission"))
    made: list[Object] = json.loads(text.replace(RELEASE, release).replace(NAMESPACE, namespace))
    return made


@cache
def _rendered(component: str, everywhere: bool = False) -> tuple[Object, ...]:
    """The component's service account, then its roles and their bindings."""
    things = _template("rbac", [] if everywhere else [WATCHED])
    return tuple(t for t in things if t["metadata"]["labels"]["app.kubernetes.io/component"] == component)


def _template(name: str, watched: Sequence[str] = (WATCHED,)) -> list[Object]:
    """What that file of the chart makes."""
    gateway = {"enabled": True, "namespace": WATCHED, "auth": {"insecure": True}}
    with Chart.load(CHART) as chart:
        values = {"watchNamespaces": list(watched), "gateway": gateway}
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE)
    made = yaml.load_all(files[f"pipecat-operator/templates/{name}.yaml"], yaml.CSafeLoader)
    return [thing for thing in made if thing]


def _rights(thing: Object) -> list[Right]:
    """None of what is no role."""
    role = thing["metadata"]["name"].partition("-pipecat-")[2]
    return [
        Right(role, group, resource, verb, name)
        for rule in thing.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]


def _objects(
    component: str, namespace: str, watched: Sequence[str], release: str, without: Right | None
) -> Iterator[Object]:
    for thing in _rendered(component, everywhere=not watched):
        text = json.dumps(_less(thing, without)).replace(RELEASE, release).replace(NAMESPACE, namespace)
        for target in watched if WATCHED in text else ("",):
            yield json.loads(text.replace(WATCHED, target))


def _less(thing: Object, without: Right | None) -> Object:
    """The same without that right."""
    if without not in _rights(thing):
        return thing
    return {**thing, "rules": [_rule(right) for right in _rights(thing) if right != without]}


def _rule(right: Right) -> Object:
    names = {"resourceNames": [right.name]} if right.name else {}
    return {"apiGroups": [right.group], "resources": [right.resource], "verbs": [right.verb], **names}


def _put(api: RawApi, thing: Object) -> None:
    """Roles and bindings can be put where there are none yet, service accounts can't."""
    meta, kind = thing["metadata"], thing["kind"]
    where = f"/namespaces/{meta['namespace']}" if "namespace" in meta else ""
    if kind == "ServiceAccount":
        code, said = api("POST", f"/api/v1{where}/serviceaccounts", thing)
    else:
        code, said = api("PUT", f"/apis/{thing['apiVersion']}{where}/{kind.lower()}s/{meta['name']}", thing)
    assert code in (200, 201) or said["reason"] == "AlreadyExists", said


def _may(api: RawApi, user: str, namespace: str, right: Right) -> bool:
    asked = {
        "namespace": namespace,
        "group": right.group,
        "resource": right.resource.partition("/")[0],
        "subresource": right.resource.partition("/")[2],
        "name": right.name,
        "verb": right.verb,
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    code, answer = api("POST", path, {"spec": {"user": user, "resourceAttributes": asked}})
    assert code == 201, answer
    return bool(answer["status"]["allowed"])
