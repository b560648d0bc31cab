"""Job and Secret manifests."""

import json
from datetime import timedelta

import pytest

from pipecat_operator.api import Limits, resolve_limits
from pipecat_operator.job import InvalidPodTemplate, job_manifest, room_expiry, secret_manifest, template_problem
from support.objects import NOW, UID, bot, session

LIMITS = Limits()


def made(of_session=None, of_bot=None, **limits):
    """A Job, its pod's spec and its container."""
    chosen = LIMITS.model_copy(update=limits)
    job = job_manifest(of_session or session(), of_bot or bot(), chosen, room_expiry(chosen, NOW), NOW)
    pod = job["spec"]["template"]["spec"]
    return job, pod, pod["containers"][0]


def test_it_runs_once_and_keeps_the_cause():
    job, pod, _ = made()
    assert (job["spec"]["backoffLimit"], job["spec"]["podReplacementPolicy"]) == (0, "Failed")
    assert [rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]] == ["FailJob", "FailJob"]
    assert pod["restartPolicy"] == "Never"


def test_the_deadlines_stand_one_behind_the_other():
    limits = {"start_timeout_seconds": 10, "max_duration_seconds": 100, "termination_grace_period_seconds": 5}
    job, pod, container = made(**limits)
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert env["PIPECAT_MAX_DURATION_SECONDS"] == "100"
    assert pod["terminationGracePeriodSeconds"] == 5
    assert job["spec"]["activeDeadlineSeconds"] == 10 + 100 + 5 + 30
    expiry = room_expiry(LIMITS.model_copy(update=limits), NOW)
    assert expiry == NOW + timedelta(seconds=10 + 100 + 5 + 30 + 60)


def test_least_rights():
    _, pod, container = made()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_tokens_and_body_travel_in_the_secret_only():
    of_session = session(body={"secret": "of the user"})
    secret = secret_manifest(of_session, "https://room", "bot-token", "user-token")
    assert secret["stringData"]["botToken"] == "bot-token"
    assert json.loads(secret["stringData"]["body"]) == {"secret": "of the user"}
    text = json.dumps(made(of_session)[0])
    assert "of the user" not in text
    assert "bot-token" not in text


def test_a_room_of_ones_own_brings_its_token_by_reference():
    own = session(room={"url": "https://mine", "tokenSecretRef": {"name": "mine", "key": "bot"}})
    _, _, container = made(own)
    token = next(variable for variable in container["env"] if variable["name"] == "DAILY_ROOM_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": "mine", "key": "bot"}


def test_the_bot_learns_its_address_and_names_its_port():
    """For its probes and its own HTTP routes."""
    _, _, container = made()
    address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert address in container["env"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]


def test_live_calls_are_not_consolidated_away_unless_the_bot_says_so():
    kept = made()[0]["spec"]["template"]["metadata"]["annotations"]
    assert kept["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert kept["karpenter.sh/do-not-disrupt"] == "true"
    assert made(of_bot=bot(allowDisruption=True))[0]["spec"]["template"]["metadata"]["annotations"] == {}


def test_the_pod_template_merges_as_a_strategic_merge_patch():
    template = {
        "metadata": {"labels": {"team": "voice", "pipecat.dev/session": "stolen"}},
        "spec": {
            "nodeSelector": {"gpu": "no"},
            "tolerations": [{"key": "voice"}],
            "volumes": [{"name": "models", "emptyDir": {}}],
            "containers": [
                {"name": "bot", "volumeMounts": [{"name": "models", "mountPath": "/models"}]},
                {"name": "sidecar", "image": "x"},
            ],
        },
    }
    job, pod, container = made(of_bot=bot(podTemplate=template))
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["pipecat.dev/session"]) == ("voice", UID)
    assert pod["nodeSelector"] == {"gpu": "no"}
    assert len(pod["tolerations"]) == 3
    assert [volume["name"] for volume in pod["volumes"]] == ["session", "tmp", "models"]
    assert [c["name"] for c in pod["containers"]] == ["bot", "sidecar"]
    assert [m["mountPath"] for m in container["volumeMounts"]] == ["/var/run/pipecat", "/tmp", "/models"]
    assert container["image"] == "pipecat-bot:dev"


def test_no_property_of_a_room_names_a_secret():
    """Callers of the gateway choose them; Kubernetes keeps any word as one of Daily's."""
    room = {"token_secret_ref": {"name": "openai", "key": "OPENAI_API_KEY"}}
    assert "openai" not in json.dumps(made(session(room=room))[0])
    assert session(room=room).spec.room.properties == room


def test_an_environment_variable_is_replaced_whole():
    _, _, container = made(of_bot=bot(env=[{"name": "DAILY_ROOM_URL", "value": "https://x"}]))
    assert {"name": "DAILY_ROOM_URL", "value": "https://x"} in container["env"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"status": {}}, "may have metadata and spec"),
        ({"spec": []}, "podTemplate.spec must be an object"),
        ({"metadata": {"labels": None}}, "podTemplate.metadata.labels must be an object"),
        ({"metadata": {"labels": "a=b"}}, "podTemplate.metadata.labels must be an object"),
        ({"spec": {"restartPolicy": "Always"}}, "restartPolicy must stay Never"),
        ({"spec": {"containers": {}}}, "containers must be a list"),
        ({"spec": {"containers": [{"image": "x"}]}}, "every item of containers needs its name"),
    ],
)
def test_a_template_that_cannot_be_merged_says_what_to_mend(template, says):
    with pytest.raises(InvalidPodTemplate, match=says):
        made(of_bot=bot(podTemplate=template))
    assert says in template_problem(bot(podTemplate=template))


def test_limits_are_resolved_session_bot_builtin():
    limits = resolve_limits(
        session(session={"idleTimeoutSeconds": 1}), bot(session={"idleTimeoutSeconds": 2, "joinTimeoutSeconds": 3})
    )
    assert (limits.idle_timeout_seconds, limits.join_timeout_seconds, limits.max_duration_seconds) == (1, 3, 3600)
