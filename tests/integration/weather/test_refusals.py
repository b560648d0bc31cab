"""What the cluster refuses a session: quota, limits, policies, rights, images, a place on a node."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from support.operated import SCRIPTED_SPEC, Child, Operated, manifest, new_namespace
from support.rights import Right
from support.weather import PATIENT, QUICK, Told, condition, told, unharmed

POLICIES: Final = {"no-pods": ("", "pods"), "no-jobs": ("batch", "jobs"), "no-secrets": ("", "secrets")}
"""Bots, and the group and resource of theirs that an admission policy denies."""

HOPELESS: Final[dict[str, dict[str, Any]]] = {
    "no-image": {"image": "nowhere:1"},
    "huge": {"resources": {"requests": {"cpu": "900"}, "limits": {}}},
    "no-secret": {"envFrom": [{"secretRef": {"name": "missing"}}]},
    "no-volume": {"podTemplate": {"spec": {"volumes": [{"name": "extra", "configMap": {"name": "missing"}}]}}},
    "no-account": {"podTemplate": {"spec": {"serviceAccountName": "nobody"}}},
    "insecure": {"podTemplate": {"spec": {"hostNetwork": True}}},
    "crooked": {"podTemplate": {"spec": {"containers": [{"name": "Not A Name", "image": "x"}]}}},
    **{name: {} for name in POLICIES},
}
"""Bots of which no session can start."""


@dataclass(frozen=True)
class Failed:
    """A session that could not start: the first status with a message, and the end."""

    first: dict[str, Any]
    end: Told


def create(operated: Operated, kind: str, spec: dict[str, Any], version: str = "v1", name: str = "tight") -> None:
    """An object of that name and spec."""
    operated.kubectl("create", "-f", "-", stdin=json.dumps(manifest(kind, name, spec, version)))


@pytest.fixture(scope="module")
def failed(
    cluster: Cluster, pool: str, daily: Child, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Failed]]:
    """A session of each hopeless Bot: all at once, in one namespace, whose pods must be secure."""
    with new_namespace(cluster, pool, daily, tmp_path_factory.mktemp("hopeless")) as operated:
        deny(operated)
        operated.kubectl("label", "namespace", operated.namespace, "pod-security.kubernetes.io/enforce=restricted")
        operated.bot()
        operated.start()
        with unharmed(operated):
            objects = [manifest("Bot", name, SCRIPTED_SPEC | spec) for name, spec in HOPELESS.items()]
            limits = {"startTimeoutSeconds": 12}
            objects += [
                manifest("BotSession", name, {"botRef": {"name": name}, "session": limits}) for name in HOPELESS
            ]
            operated.kubectl(
                "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
            )
            first: dict[str, dict[str, Any]] = {}
            wait_until("all to end", lambda: all_ended(operated, first), 60, 0.1)
            ended = {name: Failed(first[name], told(operated, name)) for name in HOPELESS}
            operated.kubectl("delete", "botsession", *HOPELESS)
        yield ended
        operated.kubectl(
            "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", *policy_names(operated)
        )


def all_ended(operated: Operated, first: dict[str, dict[str, Any]]) -> bool:
    """Whether every hopeless session has; keeps the first status with a message that is seen of each."""
    statuses = {item["metadata"]["name"]: item.get("status", {}) for item in operated.items("botsessions")}
    for name in HOPELESS:
        if statuses[name].get("message"):
            first.setdefault(name, statuses[name])
    return all(statuses[name].get("phase") == "Failed" for name in HOPELESS)


def policy_names(operated: Operated) -> list[str]:
    """Cluster-wide: other tests have theirs."""
    return [f"{operated.namespace}-{bot}" for bot in POLICIES]


def deny(operated: Operated) -> None:
    """An admission policy for each Bot that POLICIES names; they bind on return."""
    version = "admissionregistration.k8s.io/v1"
    for name, (bot, (group, resource)) in zip(policy_names(operated), POLICIES.items(), strict=True):
        rule = {"operations": ["CREATE"], "apiVersions": ["v1"], "apiGroups": [group], "resources": [resource]}
        constraints = {
            "resourceRules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operated.namespace}},
            "objectSelector": {"matchLabels": {"pipecat.dev/bot": bot}},
        }
        validations = [{"expression": "false", "message": "no bots on Sundays"}]
        spec = {"matchConstraints": constraints, "validations": validations}
        create(operated, "ValidatingAdmissionPolicy", spec, version, name)
        binding = {"policyName": name, "validationActions": ["Deny"]}
        create(operated, "ValidatingAdmissionPolicyBinding", binding, version, name)
    for bot, (_, resource) in POLICIES.items():
        wait_until(f"the policy for {resource}", lambda bot=bot, of=resource: denied(operated, bot, of), 30, 0.2)


def denied(operated: Operated, bot: str, resource: str) -> bool:
    """Whether the API server refuses one of that Bot now; nothing is made."""
    container = {"name": "x", "image": "x"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    probe = {
        "pods": {"apiVersion": "v1", "kind": "Pod", **template},
        "jobs": {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}},
        "secrets": {"apiVersion": "v1", "kind": "Secret"},
    }[resource]
    probe["metadata"] = {"name": "probe", "labels": {"pipecat.dev/bot": bot}}
    return "denied request" in operated.try_kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(probe))


@pytest.mark.parametrize("bot", POLICIES)
def test_an_admission_policy_denies(failed: dict[str, Failed], bot: str):
    words = ("denied request: no bots on Sundays", "the admission policy that denies it")
    failed[bot].end.check("PodRefused", *words)


def test_pod_security_forbids_the_bots_template(failed: dict[str, Failed]):
    """What the operator makes by itself passes the strictest level: the bystander ran there."""
    found = failed["insecure"]
    words = ('violates PodSecurity "restricted:latest"', "hostNetwork", "pod-security label")
    found.end.check("PodRefused", *words)
    assert (found.first["phase"], condition(found.first, "BotReady")[:2]) == ("Starting", ("False", "PodRefused"))


def test_a_service_account_that_is_not_there(failed: dict[str, Failed]):
    found = failed["no-account"]
    found.end.check("PodRefused", 'serviceaccount "nobody" not found', "serviceAccountName in the Bot's podTemplate")


def test_a_job_the_api_server_finds_invalid(failed: dict[str, Failed]):
    found = failed["crooked"]
    found.end.check("InvalidPodTemplate", "Not A Name", "Mend the Bot's podTemplate")


def test_an_image_that_cannot_be_pulled(failed: dict[str, Failed]):
    found = failed["no-image"]
    found.end.check("ImagePullFailed", "nowhere:1", "imagePullSecrets")
    assert (found.first["phase"], condition(found.first, "BotReady")[:2]) == ("Starting", ("False", "ImagePullFailed"))


def test_no_node_has_room(failed: dict[str, Failed]):
    found = failed["huge"]
    words = ("Insufficient cpu", "Add nodes, or lower the Bot's resources.requests")
    found.end.check("Unschedulable", *words)
    assert (found.first["phase"], condition(found.first, "BotReady")[:2]) == ("Starting", ("False", "Unschedulable"))


@pytest.mark.parametrize("bot", ["no-secret", "no-volume"])
def test_a_secret_or_configmap_is_missing(failed: dict[str, Failed], bot: str):
    failed[bot].end.check("BadConfig", '"missing" not found', "Create what is missing")


def test_a_resource_quota_is_full(operated: Operated):
    """Of pods, Jobs or Secrets: the operator, or the Job controller, tries on until the start timeout."""
    limits = {**QUICK, "startTimeoutSeconds": 10}
    with unharmed(operated):
        create(operated, "ResourceQuota", {"hard": {"pods": "1"}}, name="for-pods")
        operated.session("pod", session=limits)
        wait_until("its Job", lambda: len(operated.items("jobs")) == 2, 20, 0.1)
        create(operated, "ResourceQuota", {"hard": {"count/jobs.batch": "2"}}, name="for-jobs")
        operated.session("job", session=limits)
        wait_until("its Secret", lambda: len(operated.items("secrets")) == 3, 20, 0.1)
        create(operated, "ResourceQuota", {"hard": {"count/secrets": "3"}}, name="for-secrets")
        operated.session("secret", session=limits)
        for name in ("pod", "job", "secret"):
            told(operated, name).check("PodRefused", f"exceeded quota: for-{name}s", "Raise the quota")


def test_a_quota_that_gets_free_in_time(operated: Operated):
    """A Job refused for lack of quota is made as soon as there is some, not given up."""
    with unharmed(operated):
        create(operated, "ResourceQuota", {"hard": {"count/jobs.batch": "1"}})
        operated.session(session=PATIENT, body={"now": True})
        status = operated.until(lambda status: status.get("message"))
        assert (status["phase"], condition(status, "JobCreated")[:2]) == ("Pending", ("False", "PodRefused"))
        operated.kubectl("delete", "resourcequota", "tight")
        assert operated.until_ended()["endReason"] == "BotFinished"


def test_a_quota_that_wants_limits_the_bot_does_not_set(operated: Operated):
    create(operated, "ResourceQuota", {"hard": {"limits.memory": "1Gi"}})
    operated.session(session=QUICK)
    told(operated).check("PodRefused", "must specify limits.memory", "Set these resources on the Bot")


def test_a_limit_range_is_exceeded(operated: Operated):
    """One that only fills in what a Bot leaves out is harmless: the bystander has it, too."""
    limits = {"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "256Mi"}}
    create(operated, "LimitRange", {"limits": [limits]})
    with unharmed(operated):
        operated.bot("greedy", resources={"requests": {"cpu": "1m"}, "limits": {"cpu": "3"}})
        operated.session(bot="greedy", session=QUICK)
        told(operated).check("PodRefused", "maximum cpu usage per Container is 2", "the namespace's LimitRange")


def test_the_operator_lacks_a_right_and_is_given_it(idle: Operated):
    idle.bot()
    idle.install(without=Right("operator", "batch", "jobs", "create"))
    idle.start()
    idle.session(session=PATIENT, body={"now": True})
    status = idle.until(lambda status: status.get("message"))
    assert (status["phase"], condition(status, "JobCreated")[:2]) == ("Pending", ("False", "PodRefused"))
    assert 'cannot create resource "jobs"' in status["message"]
    assert "Give the operator's service account that right" in status["message"]
    idle.install()
    assert idle.until_ended()["endReason"] == "BotFinished"


def test_the_operator_may_not_read_events(idle: Operated):
    """Then it can't tell why there is no pod; the session ends all the same."""
    idle.bot()
    idle.install(without=Right("operator", "", "events", "list"))
    idle.start()
    idle.bot("refused", podTemplate={"spec": {"serviceAccountName": "nobody"}})
    with unharmed(idle):
        idle.session(bot="refused", session=QUICK)
        told(idle).check("StartTimeout", "Its Job has no pod")
        assert "can't be read" in idle.operator.log()
