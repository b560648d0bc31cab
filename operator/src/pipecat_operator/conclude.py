"""Why a session ended, from what is left of its pod and Job. Pure.

The most telling witness first: the operator's own earlier word, then what the cluster did to the pod, then the
bot host's termination message, then the exit code, then the Job's condition, which outlives the pod.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipecat_operator.conditions import REASON_BY_EXIT_CODE, REPORTED_BY_BOT, EndReason
from pipecat_operator.observe import ConditionView, JobView, Observed, PodView

MESSAGE_MAX: Final = 1024
"""Characters of a status message; a traceback's end is the telling part."""

_DISRUPTIONS: Final = {
    "PreemptionByScheduler": EndReason.PREEMPTED,
    "DeletionByTaintManager": EndReason.NODE_LOST,
    "DeletionByPodGC": EndReason.NODE_LOST,
}
"""Reasons of a pod's DisruptionTarget condition; the others (EvictionByEvictionAPI, TerminationByKubelet) evict."""

_KUBELET_ENDS: Final = {
    "Evicted": EndReason.EVICTED,
    "Terminated": EndReason.EVICTED,
    "NodeShutdown": EndReason.EVICTED,
    "Shutdown": EndReason.EVICTED,
    "Preempting": EndReason.PREEMPTED,
    "NodeLost": EndReason.NODE_LOST,
}
"""Reasons a kubelet gives a pod that it ended."""

WHO: Final = "The API server's audit log tells by whom."
DEADLINE: Final = "The bot did not end at its maxDurationSeconds, the Job's deadline ended it: see the pod's log."
LOST_NODE: Final = "Its pod goes when the node comes back or is deleted."
SIGKILLED: Final = 137
_AFTER: Final = {
    EndReason.EVICTED: "Drain nodes when no session runs there; against lack of memory raise the Bot's requests.",
    EndReason.PREEMPTED: "Give the Bot's podTemplate a higher priorityClassName, or add nodes.",
    EndReason.NODE_LOST: LOST_NODE,
}
"""What can be done about each."""

_ENDED_BY_ITSELF: Final = REPORTED_BY_BOT - {EndReason.STOPPED}
"""A host says Stopped on SIGTERM: that is what happened to it, not why."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The end of a session. ``at`` None: nobody noted when."""

    reason: EndReason
    message: str
    at: datetime | None = None


def conclude(observed: Observed) -> Conclusion:
    """Why it ended, given that it has ended."""
    job, pod, status = observed.job, observed.pod, observed.session.status
    at = pod.finished_at if pod else None
    if status.end_reason:
        return Conclusion(status.end_reason, status.message or "", at)
    if pod is not None and (said := _from_pod(pod)):
        return Conclusion(said.reason, said.message, at)
    if job is not None and (said := _from_job(job, pod)):
        return Conclusion(said.reason, said.message, at)
    if observed.job_is_gone:
        return Conclusion(EndReason.BOT_DELETED, f"The session's Job was deleted. {WHO}")
    if pod is not None and pod.deletion_at and not pod.terminal and not pod.gone:
        lost = f"Its pod did not end within its grace: node {pod.node} is lost. {LOST_NODE}"
        return Conclusion(EndReason.NODE_LOST, lost)
    return Conclusion(EndReason.BOT_DELETED, f"The bot's pod was deleted. {WHO}", at)


def _from_pod(pod: PodView) -> Conclusion | None:
    host = _host_says(pod.termination_message)
    if host and host.reason in _ENDED_BY_ITSELF:
        return host
    if pod.exit_reason == "OOMKilled":
        return Conclusion(
            EndReason.OUT_OF_MEMORY,
            "The bot was killed for its memory: raise the Bot's resources.limits.memory, or its requests without one.",
        )
    if disrupted := disruption(pod):
        return disrupted
    if pod.reason == "DeadlineExceeded":
        return Conclusion(EndReason.DEADLINE_EXCEEDED, DEADLINE)
    if pod.deletion_at or pod.exit_code is None:
        return None
    if pod.exit_reason == "ContainerStatusUnknown":
        return Conclusion(EndReason.NODE_LOST, f"Node {pod.node} lost sight of the bot. {LOST_NODE}")
    reason = REASON_BY_EXIT_CODE.get(pod.exit_code, EndReason.BOT_FAILED)
    said = _tail(pod.termination_message)
    return Conclusion(reason, " ".join(filter(None, (f"Exit code {pod.exit_code}.", _killed(pod.exit_code), said))))


def _from_job(job: JobView, pod: PodView | None) -> Conclusion | None:
    failure = job.failure
    if failure and failure.reason == "DeadlineExceeded":
        return Conclusion(EndReason.DEADLINE_EXCEEDED, DEADLINE)
    if failure and failure.reason == "PodFailurePolicy":
        return _from_policy(failure)
    # The Job counts a bot that ended well on SIGTERM as a success, whoever deleted its pod.
    if job.succeeded and not (pod and pod.deletion_at):
        return Conclusion(EndReason.BOT_FINISHED, "The bot ended; its pod is gone and left no reason.")
    if failure and pod is None:
        return Conclusion(EndReason.BOT_DELETED, failure.message)
    return None


def _from_policy(failure: ConditionView) -> Conclusion:
    """The Job controller's words: ``Pod ns/name has condition DisruptionTarget`` or ``... exit code N ...``."""
    if "condition DisruptionTarget" in failure.message:
        return Conclusion(EndReason.EVICTED, f"{failure.message}. The cluster's events tell by whom.")
    found = re.search(r"exit code (\d+)", failure.message)
    code = int(found[1]) if found else -1
    reason = REASON_BY_EXIT_CODE.get(code, EndReason.BOT_FAILED)
    return Conclusion(reason, " ".join(filter(None, (f"{failure.message}.", _killed(code)))))


def disruption(pod: PodView) -> Conclusion | None:
    """What the cluster did to the pod: by its DisruptionTarget condition, or the kubelet's reason."""
    by_kubelet = _KUBELET_ENDS.get(pod.reason)
    if pod.disruption:
        # Not the termination message: that is the bot's, and says SIGTERM.
        reason, said = _DISRUPTIONS.get(pod.disruption.reason, EndReason.EVICTED), pod.disruption.message
    elif by_kubelet:
        reason, said = by_kubelet, _tail(pod.termination_message) or f"The kubelet says {pod.reason}."
    else:
        return None
    reason = by_kubelet or reason
    where = f"Node {pod.node}: " if pod.node else ""
    return Conclusion(reason, f"{where}{said.removesuffix('.')}. {_AFTER[reason]}", pod.finished_at)


def _killed(code: int) -> str:
    return "That is SIGKILL: out of memory, or not ended within its grace." if code == SIGKILLED else ""


def _host_says(message: str) -> Conclusion | None:
    """The bot host's termination message, if that is what it is."""
    try:
        said = json.loads(message)
        reason = EndReason(said["reason"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return Conclusion(reason, _tail(str(said.get("message", "")))) if reason in REPORTED_BY_BOT else None


def _tail(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MESSAGE_MAX else "..." + text[-MESSAGE_MAX:]
