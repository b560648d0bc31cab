"""The Job and Secret of a session, as manifests. Pure."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pipecat_operator import names
from pipecat_operator.api import Bot, BotSession, Limits
from pipecat_operator.kube import Object

SESSION_DIR: Final = "/var/run/pipecat"
BODY_FILE: Final = "body.json"
TERMINATION_LOG: Final = "/dev/termination-log"

JOB_MARGIN: Final = timedelta(seconds=30)
"""Between the end of the bot host's own deadlines and the Job's."""
ROOM_MARGIN: Final = timedelta(seconds=60)
"""Between the Job's deadline and the expiry of room and tokens."""

LOST_NODE: Final = [
    {
        "key": f"node.kubernetes.io/{taint}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 30,
    }
    for taint in ("not-ready", "unreachable")
]
"""Nobody waits the default five minutes on a call whose node is gone."""

_MERGE_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""Lists that merge item by item, as in Kubernetes' strategic merge patch; tolerations add up; others replace."""


class InvalidPodTemplate(Exception):
    """Bot.spec.podTemplate asks for something that can't be."""


def room_expiry(limits: Limits, now: datetime) -> datetime:
    """When a room made now, and its tokens, stop working: behind every other deadline."""
    lifetime = limits.start_timeout_seconds + limits.max_duration_seconds + limits.termination_grace_period_seconds
    return now + timedelta(seconds=lifetime) + JOB_MARGIN + ROOM_MARGIN


def secret_manifest(session: BotSession, room_url: str, bot_token: str | None, user_token: str | None) -> Object:
    """What the bot's pod and the caller are handed. No tokens: the session brought a room of its own."""
    body = json.dumps(session.spec.body, separators=(",", ":"), ensure_ascii=False)
    data = {
        names.SECRET_ROOM_URL: room_url,
        names.SECRET_BOT_TOKEN: bot_token,
        names.SECRET_USER_TOKEN: user_token,
        names.SECRET_BODY: body,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(session, names.secret_name(session.metadata.uid)),
        "type": "Opaque",
        "immutable": True,
        "stringData": {key: value for key, value in data.items() if value is not None},
    }


def job_manifest(session: BotSession, bot: Bot, limits: Limits, room_expires_at: datetime, now: datetime) -> Object:
    """The Job that runs the session's bot once.

    Raises:
        InvalidPodTemplate: the Bot's podTemplate can't be merged.
    """
    metadata = _metadata(session, names.job_name(session.metadata.uid))
    metadata["annotations"] = {names.ANNOTATION_LIMITS: json.dumps(limits.model_dump(mode="json", by_alias=True))}
    deadline = room_expires_at - ROOM_MARGIN - now
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": max(1, int(deadline.total_seconds())),
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": names.CONTAINER, "operator": "NotIn", "values": [0]},
                    },
                ]
            },
            "template": _pod_template(session, bot, limits),
        },
    }


def template_problem(bot: Bot) -> str | None:
    """What is wrong with the Bot's podTemplate, or None."""
    skeleton = {
        "metadata": {"labels": {}},
        "spec": {"containers": [{"name": names.CONTAINER}], "volumes": []},
    }
    try:
        merge(skeleton, _checked(bot.spec.pod_template))
    except InvalidPodTemplate as invalid:
        return str(invalid)
    return None


def _pod_template(session: BotSession, bot: Bot, limits: Limits) -> Object:
    made: Object = {
        "metadata": {"labels": _labels(session), "annotations": _disruption_annotations(bot)},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": limits.termination_grace_period_seconds,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "tolerations": list(LOST_NODE),
            "imagePullSecrets": [s.model_dump(exclude_none=True) for s in bot.spec.image_pull_secrets],
            "containers": [_container(session, bot, limits)],
            "volumes": [
                {
                    "name": "session",
                    "secret": {
                        "secretName": names.secret_name(session.metadata.uid),
                        "items": [{"key": names.SECRET_BODY, "path": BODY_FILE}],
                    },
                },
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }
    template = _checked(bot.spec.pod_template)
    merged = merge(made, template)
    merged["metadata"]["labels"] |= _labels(session)
    return merged


def _container(session: BotSession, bot: Bot, limits: Limits) -> Object:
    container: Object = {
        "name": names.CONTAINER,
        "image": bot.spec.image,
        "env": merge_list("env", _environment(session, limits), bot.spec.env),
        "envFrom": list(bot.spec.env_from),
        "resources": bot.spec.resources.model_dump(exclude_none=True),
        "ports": [{"name": "http", "containerPort": names.PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": names.PORT},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "session", "mountPath": SESSION_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod
        ],
    }
    if bot.spec.image_pull_policy:
        container["imagePullPolicy"] = bot.spec.image_pull_policy
    return container


def _environment(session: BotSession, limits: Limits) -> list[Object]:
    secret = names.secret_name(session.metadata.uid)
    room = session.spec.room
    own = room.token_secret_ref if room.url is not None else None
    token = {"name": own.name, "key": own.key} if own else {"name": secret, "key": names.SECRET_BOT_TOKEN}
    values = {
        "PIPECAT_SESSION_ID": session.metadata.uid,
        "PIPECAT_SESSION_BODY_FILE": f"{SESSION_DIR}/{BODY_FILE}",
        "PIPECAT_MAX_DURATION_SECONDS": str(limits.max_duration_seconds),
        "PIPECAT_JOIN_TIMEOUT_SECONDS": str(limits.join_timeout_seconds),
        "PIPECAT_IDLE_TIMEOUT_SECONDS": str(limits.idle_timeout_seconds),
        "PIPECAT_TERMINATION_GRACE_SECONDS": str(limits.termination_grace_period_seconds),
        "PIPECAT_TERMINATION_MESSAGE_PATH": TERMINATION_LOG,
    }
    return [
        {
            "name": "DAILY_ROOM_URL",
            "valueFrom": {"secretKeyRef": {"name": secret, "key": names.SECRET_ROOM_URL}},
        },
        {"name": "DAILY_ROOM_TOKEN", "valueFrom": {"secretKeyRef": token}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _metadata(session: BotSession, name: str) -> Object:
    owner = {
        "apiVersion": names.API_VERSION,
        "kind": "BotSession",
        "name": session.metadata.name,
        "uid": session.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "name": name,
        "namespace": session.metadata.namespace,
        "labels": _labels(session),
        "ownerReferences": [owner],
    }


def _labels(session: BotSession) -> dict[str, str]:
    return {
        names.LABEL_SESSION: session.metadata.uid,
        names.LABEL_BOT: session.spec.bot_ref.name,
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
    }


def _disruption_annotations(bot: Bot) -> dict[str, str]:
    if bot.spec.allow_disruption:
        return {}
    return {names.ANNOTATION_SAFE_TO_EVICT: "false", names.ANNOTATION_DO_NOT_DISRUPT: "true"}


def _checked(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """The user's podTemplate, or InvalidPodTemplate saying what to mend."""
    unknown = sorted(set(template) - {"metadata", "spec"})
    if unknown:
        raise InvalidPodTemplate(f"podTemplate may have metadata and spec, not {', '.join(unknown)}.")
    for part in ("metadata", "spec"):
        if not isinstance(template.get(part, {}), Mapping):
            raise InvalidPodTemplate(f"podTemplate.{part} must be an object.")
    if not isinstance(template.get("metadata", {}).get("labels", {}), Mapping):
        raise InvalidPodTemplate("podTemplate.metadata.labels must be an object.")
    if template.get("spec", {}).get("restartPolicy", "Never") != "Never":
        raise InvalidPodTemplate("podTemplate.spec.restartPolicy must stay Never: a session runs once.")
    return template


def merge(made: Object, over: Mapping[str, Any]) -> Object:
    """``over`` on top of ``made``: objects key by key, lists as MERGE_KEYS says.

    Raises:
        InvalidPodTemplate: a list that merges by name has an item without one, or is no list.
    """
    merged = dict(made)
    for key, value in over.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(dict(before), value)
        elif isinstance(before, list) and key == "tolerations":
            merged[key] = [*before, *_a_list(key, value)]
        elif isinstance(before, list) and key in _MERGE_KEYS:
            merged[key] = merge_list(key, before, value)
        else:
            merged[key] = value
    return merged


def merge_list(key: str, made: list[Object], over: Any) -> list[Object]:
    """Items of the same merge key are merged, new ones appended."""
    identity = _MERGE_KEYS[key]
    merged = {item[identity]: item for item in made}
    for item in _a_list(key, over):
        if not isinstance(item, Mapping) or not isinstance(item.get(identity), str | int):
            raise InvalidPodTemplate(f"every item of {key} needs its {identity}.")
        before = merged.get(item[identity])
        if before is None or key == "env":
            # A variable's value and valueFrom exclude each other: replace it whole.
            merged[item[identity]] = dict(item)
        else:
            merged[item[identity]] = merge(before, item)
    return list(merged.values())


def _a_list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise InvalidPodTemplate(f"{key} must be a list.")
    return list(value)
