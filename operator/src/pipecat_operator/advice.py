"""What to do about a trouble: the sentence that ends its message. Pure."""

import re
from typing import Final

from pipecat_operator.conditions import EndReason

_BY_WORDS: Final[dict[EndReason, tuple[tuple[str, str], ...]]] = {
    EndReason.POD_REFUSED: (
        ("exceeded quota", "Raise the quota, or wait until other sessions of the namespace have ended."),
        ("must specify", "Set these resources on the Bot: the namespace's quota counts them."),
        ("per Container", "Mend the Bot's resources, or the namespace's LimitRange."),
        ("per Pod", "Mend the Bot's resources, or the namespace's LimitRange."),
        ("violates PodSecurity", "Mend the Bot's podTemplate, or the namespace's pod-security label."),
        ("denied", "Mend the Bot, or the admission policy that denies it."),
        ("service account", "Create it, or mend serviceAccountName in the Bot's podTemplate."),
        ("serviceaccount", "Create it, or mend serviceAccountName in the Bot's podTemplate."),
    ),
    EndReason.ROOM_FAILED: (
        ("clock", "Set the clock of the operator's node."),
        ("(401)", "Give the operator a valid DAILY_API_KEY and restart it."),
        ("(403)", "Look at the domain's plan and limits in Daily's dashboard."),
        ("(429)", "Start fewer sessions at once, or have Daily raise the domain's limits."),
        ("(4", "Mend the room properties of the session or its Bot."),
    ),
    EndReason.BAD_CONFIG: (("stands in the way", "Delete it."),),
}
_LACKS_A_RIGHT: Final = re.compile(r'User "[^"]+" cannot \w+ resource ')
"""How RBAC refuses."""
_BY_REASON: Final = {
    EndReason.POD_REFUSED: "Mend the Bot's podTemplate, or what refuses it.",
    EndReason.ROOM_FAILED: "Check the operator's way to Daily, and Daily's status page.",
    EndReason.IMAGE_PULL_FAILED: "Check the Bot's image, the way to its registry, and its imagePullSecrets.",
    EndReason.UNSCHEDULABLE: "Add nodes, or lower the Bot's resources.requests.",
    EndReason.BAD_CONFIG: "Create what is missing, or mend the Bot.",
    EndReason.INVALID_POD_TEMPLATE: "Mend the Bot's podTemplate.",
}


def advised(reason: EndReason, message: str) -> str:
    """The message of a session that does not start, and what can be done about it."""
    if _LACKS_A_RIGHT.search(message):
        return f"{_sentence(message)} Give the operator's service account that right."
    found = next((advice for words, advice in _BY_WORDS.get(reason, ()) if words in message), None)
    advice = found or _BY_REASON.get(reason)
    return f"{_sentence(message)} {advice}" if advice else message


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", "]", ")")) else f"{text}."
