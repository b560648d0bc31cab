"""Every name the operator gives or reads: API group, labels, annotations, and names made from a UID."""

import re
from typing import Final

GROUP: Final = "pipecat.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

CONTAINER: Final = "bot"
"""The container of a session's pod that runs the bot."""

PORT: Final = 8080
"""Where the bot's host answers its readiness probe."""

LABEL_SESSION: Final = f"{GROUP}/session"
LABEL_BOT: Final = f"{GROUP}/bot"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "pipecat-operator"

ANNOTATION_LIMITS: Final = f"{GROUP}/limits"
"""On the Job: the limits this session was started with, as JSON; a later change of the Bot leaves them."""

ANNOTATION_SAFE_TO_EVICT: Final = "cluster-autoscaler.kubernetes.io/safe-to-evict"
ANNOTATION_DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"

SECRET_ROOM_URL: Final = "roomUrl"
SECRET_BOT_TOKEN: Final = "botToken"
SECRET_USER_TOKEN: Final = "userToken"
SECRET_BODY: Final = "body"

LEASE: Final = "pipecat-operator"
INSTALLATION_CONFIGMAP: Final = "pipecat-operator"

_UID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def job_name(uid: str) -> str:
    """The session's Job."""
    return f"bs-{uid}"


def secret_name(uid: str) -> str:
    """The session's Secret: room URL, tokens, body."""
    return f"bs-{uid}"


def room_name(installation: str, uid: str) -> str:
    """The session's Daily room; at most 128 of ``[A-Za-z0-9_-]``, as Daily wants it."""
    return f"{installation}-{uid}"


def room_owner(installation: str, room: str) -> str | None:
    """The UID in a room's name, or None when another installation (or a person) made the room."""
    prefix = f"{installation}-"
    uid = room.removeprefix(prefix)
    # One installation's id may begin with another's: what follows must be a UID and no more.
    return uid if room.startswith(prefix) and _UID.fullmatch(uid) else None
