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
        return Conclusion(EndReason.BOT_DELETED, "The session's Job was deleted.")
    if pod is not None and pod.deletion_at and not pod.terminal and not pod.gone:
        return Conclusion(EndReason.NODE_LOST, "The bot's pod did not end within its grace: its node is lost.")
    return Conclusion(EndReason.BOT_DELETED, "The bot's pod was deleted.", at)


def _from_pod(pod: PodView) -> Conclusion | None:
    host = _host_says(pod.termination_message)
    if host and host.reason in _ENDED_BY_ITSELF:
        return host
    if pod.exit_reason == "OOMKilled":
        return Conclusion(
            EndReason.OUT_OF_MEMORY,
            "The bot used more memory than its limit: raise the Bot's resources.limits.memory.",
        )
    if pod.disruption:
        return Conclusion(disrupted(pod.disruption.reason), pod.disruption.message)
    if pod.reason in ("Evicted", "Terminated", "NodeShutdown", "Shutdown"):
        return Conclusion(EndReason.EVICTED, _tail(pod.termination_message) or f"The kubelet says {pod.reason}.")
    if pod.reason in ("Preempting", "NodeLost"):
        lost = EndReason.NODE_LOST if pod.reason == "NodeLost" else EndReason.PREEMPTED
        return Conclusion(lost, _tail(pod.termination_message))
    if pod.reason == "DeadlineExceeded":
        return Conclusion(EndReason.DEADLINE_EXCEEDED, "The bot ran past its deadline.")
    if pod.deletion_at or pod.exit_code is None:
        return None
    if pod.exit_reason == "ContainerStatusUnknown":
        return Conclusion(EndReason.NODE_LOST, "The node lost sight of the bot.")
    reason = REASON_BY_EXIT_CODE.get(pod.exit_code, EndReason.BOT_FAILED)
    said = _tail(pod.termination_message)
    return Conclusion(reason, f"Exit code {pod.exit_code}." + (f" {said}" if said else ""))


def _from_job(job: JobView, pod: PodView | None) -> Conclusion | None:
    failure = job.failure
    if failure and failure.reason == "DeadlineExceeded":
        return Conclusion(EndReason.DEADLINE_EXCEEDED, "The bot ran past its deadline.")
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
        return Conclusion(EndReason.EVICTED, failure.message)
    code = re.search(r"exit code (\d+)", failure.message)
    reason = REASON_BY_EXIT_CODE.get(int(code[1]) if code else -1, EndReason.BOT_FAILED)
    return Conclusion(reason, failure.message)


def disrupted(reason: str) -> EndReason:
    """The end reason of a pod's DisruptionTarget condition."""
    return _DISRUPTIONS.get(reason, EndReason.EVICTED)


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
