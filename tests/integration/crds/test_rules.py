"""Each rule of the CRDs on the real API server: what it accepts, what it refuses, and the message a user reads."""

import copy
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

Apply = Callable[..., str]

SESSION: dict[str, Any] = {
    "botRef": {"name": "assistant"},
    "body": {"a": [1, {"b": None}]},
    "room": {"enable_chat": True},
    "user": {"name": "Ada", "id": "7"},
    "session": {"idleTimeoutSeconds": 5},
    "quota": {"group": "acme", "maxSessions": 5},
}
BOT: dict[str, Any] = {"image": "x:1"}
OPERATORS_OWN = {"name": "x", "exp": 1, "nbf": 1, "eject_at_room_exp": False, "eject_after_elapsed": 1}


@pytest.fixture
def apply(kubectl: Apply, namespace: str) -> Apply:
    """Server-side validation as for any user; answers what kubectl said, refused or not."""

    def applied(kind: str, spec: dict[str, Any], name: str = "it") -> str:
        manifest = {"apiVersion": "pipecat.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        try:
            return kubectl("--namespace", namespace, "apply", "-f", "-", stdin=json.dumps(manifest))
        except subprocess.CalledProcessError as error:
            return "\n".join([*getattr(error, "__notes__", ()), str(error.stderr)])

    return applied


def changed(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field set; None removes it."""
    copied = copy.deepcopy(spec)
    *parents, last = path.split(".")
    at = copied
    for parent in parents:
        at = at.setdefault(parent, {})
    if value is None:
        del at[last]
    else:
        at[last] = value
    return copied


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("room.privacy", "public"),
        ("room.start_video_off", True),
        ("body", {"x": {"y": ["deep", {"z": 1}]}}),
        ("session.ttlSecondsAfterFinished", 0),
        ("session.maxDurationSeconds", 86400),
        ("quota", None),
        ("quota.maxSessions", 0),
        ("quota.group", "x" * 63),
        ("stop", True),
    ],
)
def test_a_session_may(apply: Apply, path: str, value: Any):
    assert "created" in apply("BotSession", changed(SESSION, path, value))


def test_a_session_may_bring_a_room(apply: Apply):
    own = {"url": "https://x.daily.co/mine", "tokenSecretRef": {"name": "mine"}}
    assert "created" in apply("BotSession", changed(SESSION, "room", own))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("botRef", None, "spec.botRef: Required value"),
        ("botRef.name", "", "spec.botRef.name"),
        ("botRef.name", "x" * 64, "may not be more than 63"),
        ("botRef.name", "../secrets", "spec.botRef.name in body should match"),
        ("room.name", "mine", "spec.room.name is the operator's"),
        ("room.exp", 1, "set spec.session.maxDurationSeconds instead"),
        ("room.nbf", 1, "spec.room.exp and nbf are the operator's"),
        ("room.eject_at_room_exp", False, "eject_at_room_exp and eject_after_elapsed are the operator's"),
        ("room.eject_after_elapsed", 1, "eject_at_room_exp and eject_after_elapsed are the operator's"),
        ("room.privacy", "secret", 'supported values: "public", "private"'),
        ("room.url", "https://x", "needs both spec.room.url and spec.room.tokenSecretRef"),
        ("room.tokenSecretRef", {"name": "x"}, "needs both spec.room.url and spec.room.tokenSecretRef"),
        ("room.url", "ftp://x", "should match '^https?://'"),
        ("room", {"url": "https://x", "tokenSecretRef": {"name": "x", "key": "a b"}}, "key in body should match"),
        ("session.startTimeoutSeconds", 0, "should be greater than or equal to 1"),
        ("session.startTimeoutSeconds", 3601, "should be less than or equal to 3600"),
        ("session.maxDurationSeconds", 86401, "should be less than or equal to 86400"),
        ("session.terminationGracePeriodSeconds", 601, "should be less than or equal to 600"),
        ("session.idleTimeoutSeconds", "soon", "must be of type integer"),
        ("body", "text", "must be of type object"),
        ("typo", 1, 'unknown field "spec.typo"'),
        ("user.id", "x" * 37, "may not be more than 36"),
        ("quota", {"group": "acme"}, "spec.quota.maxSessions: Required value"),
        ("quota", {"maxSessions": 5}, "spec.quota.group: Required value"),
        ("quota.maxSessions", -1, "should be greater than or equal to 0"),
        ("quota.group", "Acme", "spec.quota.group in body should match"),
        ("quota.group", "a.b", "spec.quota.group in body should match"),
        ("quota.group", "x" * 64, "may not be more than 63"),
    ],
)
def test_a_session_may_not(apply: Apply, path: str, value: Any, says: str):
    assert says in apply("BotSession", changed(SESSION, path, value))


@pytest.mark.parametrize("more", [{"privacy": "public"}, {"enable_chat": True}])
def test_a_room_of_ones_own_takes_no_properties_here(apply: Apply, more: dict[str, Any]):
    own = {"url": "https://x", "tokenSecretRef": {"name": "x"}, **more}
    said = apply("BotSession", changed(SESSION, "room", own))
    assert "a room of your own takes spec.room.url and spec.room.tokenSecretRef only" in said


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("botRef.name", "other"),
        ("body", {"a": 2}),
        ("body", None),
        ("room.enable_chat", False),
        ("room", None),
        ("user.name", "Bob"),
        ("user", None),
        ("session.idleTimeoutSeconds", 6),
        ("session", None),
        ("quota.maxSessions", 6),
        ("quota.group", "other"),
        ("quota", None),
    ],
)
def test_all_but_stop_is_immutable(apply: Apply, path: str, value: Any):
    apply("BotSession", SESSION)
    said = apply("BotSession", changed(SESSION, path, value))
    assert f"spec.{path.split('.', maxsplit=1)[0]} is immutable; create another BotSession" in said
    assert "configured" in apply("BotSession", changed(SESSION, "stop", True))


def test_stop_only_turns_on(apply: Apply):
    apply("BotSession", changed(SESSION, "stop", True))
    assert "spec.stop only turns on" in apply("BotSession", changed(SESSION, "stop", False))


@pytest.mark.parametrize("kind", ["Bot", "BotSession"])
def test_names_fit_a_label(apply: Apply, kind: str):
    spec = BOT if kind == "Bot" else SESSION
    assert "created" in apply(kind, spec, name="x" * 63)
    assert "metadata.name must be at most 63 characters long" in apply(kind, spec, name="x" * 64)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("imagePullPolicy", "Never"),
        ("resources", {"requests": {"cpu": 1, "memory": "1.5Gi"}, "limits": {"nvidia.com/gpu": "1"}}),
        ("image", "localhost:5000/a/bot@sha256:0f"),
        ("env", [{"name": "1 odd-but.allowed", "value": ""}]),
        ("env", [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]),
        ("envFrom", [{"prefix": "P_", "configMapRef": {"name": "x", "optional": True}}]),
        ("podTemplate", {"spec": {"nodeSelector": {"a": "b"}}}),
        ("room", {"privacy": "public", "enable_recording": "cloud"}),
        ("allowDisruption", True),
        ("capacity", {}),
        ("capacity.maxSessions", 0),
        ("capacity.maxSessions", 10_000),
    ],
)
def test_a_bot_may(apply: Apply, path: str, value: Any):
    assert "created" in apply("Bot", changed(BOT, path, value))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("image", None, "spec.image: Required value"),
        ("image", "", "spec.image"),
        ("imagePullPolicy", "Sometimes", 'supported values: "Always", "IfNotPresent", "Never"'),
        ("resources", {"requests": {"cpu": "much"}}, "spec.resources.requests.cpu"),
        ("image", "bot:1 ", "spec.image in body should match"),
        ("env", [{"name": "A"}, {"name": "A"}], "Duplicate value"),
        ("env", [{"name": "A=B"}], "spec.env[0].name in body should match"),
        ("env", [{"name": "K\u00c9Y"}], "spec.env[0].name in body should match"),
        (
            "env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "../y"}}}],
            "secretKeyRef.key in body should match",
        ),
        ("env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "", "key": "y"}}}], "secretKeyRef.name"),
        ("envFrom", [{"prefix": "A=", "secretRef": {"name": "x"}}], "prefix in body should match"),
        ("envFrom", [{"secretRef": {"name": "No Name"}}], "secretRef.name in body should match"),
        ("env", [{"value": "1"}], "spec.env"),
        ("env", [{"name": "A", "valeu": "1"}], 'unknown field "spec.env[0].valeu"'),
        (
            "env",
            [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "a variable has a value or a valueFrom, not both",
        ),
        ("env", [{"name": "A", "valueFrom": {}}], "valueFrom takes exactly one of secretKeyRef, configMapKeyRef"),
        ("envFrom", [{"prefix": "P_"}], "either a secretRef or a configMapRef"),
        (
            "envFrom",
            [{"secretRef": {"name": "x"}, "configMapRef": {"name": "y"}}],
            "either a secretRef or a configMapRef",
        ),
        *(("room", {word: value}, "of a room are the operator's") for word, value in OPERATORS_OWN.items()),
        ("session", {"joinTimeoutSeconds": 0}, "should be greater than or equal to 1"),
        ("capacity.maxSessions", -1, "should be greater than or equal to 0"),
        ("capacity.maxSessions", "many", "must be of type integer"),
    ],
)
def test_a_bot_may_not(apply: Apply, path: str, value: Any, says: str):
    assert says in apply("Bot", changed(BOT, path, value))


def test_defaults(apply: Apply, kubectl: Apply, namespace: str):
    apply("Bot", BOT)
    apply("BotSession", {"botRef": {"name": "it"}})
    bot = json.loads(kubectl("--namespace", namespace, "get", "bot", "it", "-o", "json"))["spec"]
    session = json.loads(kubectl("--namespace", namespace, "get", "bs", "it", "-o", "json"))["spec"]
    assert bot["resources"] == {"requests": {"cpu": "250m", "memory": "300Mi"}, "limits": {"cpu": "1"}}
    assert bot["allowDisruption"] is False
    assert session == {"botRef": {"name": "it"}, "stop": False}


def test_what_kubectl_shows(apply: Apply, kubectl: Apply, namespace: str):
    apply("Bot", BOT, name="shown")
    apply("BotSession", SESSION, name="shown")
    status = {"phase": "Failed", "endReason": "BotFailed", "room": {"url": "https://room"}, "jobName": "the-job"}
    patch = json.dumps({"status": status})
    kubectl("--namespace", namespace, "patch", "bs", "shown", "--subresource=status", "--type=merge", "-p", patch)
    header, row = kubectl("--namespace", namespace, "get", "bs").splitlines()
    assert header.split() == ["NAME", "BOT", "PHASE", "REASON", "ROOM", "AGE"]
    assert row.split()[:5] == ["shown", "assistant", "Failed", "BotFailed", "https://room"]
    wide = kubectl("--namespace", namespace, "get", "botsessions", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "BOT", "PHASE", "REASON", "ROOM", "AGE", "JOB", "POD", "JOINED"]
    assert "the-job" in wide[1]
    assert kubectl("--namespace", namespace, "get", "bot").splitlines()[0].split() == [
        "NAME",
        "IMAGE",
        "LIVE",
        "READY",
        "AGE",
    ]
    assert "botsession.pipecat.dev/shown" in kubectl("--namespace", namespace, "get", "all", "-o", "name")


def test_status_is_a_subresource(apply: Apply, kubectl: Apply, namespace: str):
    apply("BotSession", SESSION)
    kubectl("--namespace", namespace, "patch", "bs", "it", "--type=merge", "-p", '{"status":{"phase":"Running"}}')
    assert "status" not in json.loads(kubectl("--namespace", namespace, "get", "bs", "it", "-o", "json"))


@pytest.mark.parametrize("field", ["spec", "spec.session.maxDurationSeconds", "spec.room", "status.endReason"])
def test_explain_teaches(kubectl: Apply, field: str):
    said = kubectl("explain", f"botsession.{field}")
    assert "DESCRIPTION" in said
    assert "<empty>" not in said


@pytest.mark.parametrize("kind", ["bot", "botsession"])
def test_every_field_is_described(kubectl: Apply, kind: str):
    crd = json.loads(kubectl("get", "crd", f"{kind}s.pipecat.dev", "-o", "json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    def bare(at: dict[str, Any], path: str) -> list[str]:
        found = [] if at.get("description") or path == "metadata" else [path]
        for name, below in at.get("properties", {}).items():
            found += bare(below, f"{path}.{name}".strip("."))
        if isinstance(at.get("items"), dict):
            found += bare(at["items"], f"{path}[]")
        return found

    assert bare(schema, "") == []
