"""A pod's status from what happened to its containers, as kubelet writes it. Pure.

Source: pkg/kubelet/kubelet_pods.go (getPhase) and pkg/kubelet/status/generate.go, v1.37. Pods here are never
restarted, so only restartPolicy Never is spelled out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from pipecat_operator.kube import Object

TERMINAL: Final = ("Succeeded", "Failed")
KUBELET_CONDITIONS: Final = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started yet."""

    reason: str = "ContainerCreating"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """Its process runs."""

    started_at: datetime


@dataclass(frozen=True, slots=True)
class Terminated:
    """Its process ended, or never was."""

    exit_code: int
    reason: str
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


State = Waiting | Running | Terminated

LOST: Final = Terminated(
    137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated"
)


@dataclass(frozen=True, slots=True)
class Container:
    """What is known of one container. ``ready`` and ``started``: what its probes say while it runs."""

    name: str
    image: str
    state: State = Waiting()
    ready: bool = False
    started: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the whole pod failed, whatever its exit codes say.

    ``disruption``: a DisruptionTarget condition goes with it.
    """

    reason: str
    message: str
    disruption: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one pod. ``verdict`` counts once no container runs. ``rejected``: nothing was ever tried."""

    host_ip: str
    started_at: datetime
    containers: tuple[Container, ...] = ()
    pod_ip: str | None = None
    verdict: Verdict | None = None
    rejected: bool = False


def ended(state: State) -> bool:
    """Whether the container will not run any more."""
    return isinstance(state, Terminated)


def give_up(container: Container) -> Container:
    """The container of a pod that ends: one that has no end yet is recorded as lost."""
    return container if ended(container.state) else replace(container, state=LOST, ready=False, started=False)


def terminal(pod: Object) -> bool:
    """Whether the pod's phase is final."""
    return (pod.get("status") or {}).get("phase") in TERMINAL


def was_started(pod: Object) -> bool:
    """Whether a container of the pod was running or ended before, by its stored status."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any(key in (entry.get("state") or {}) for entry in statuses for key in ("running", "terminated"))


def restored(pod: Object) -> tuple[Container, ...]:
    """The containers as the stored status has them, for a pod whose processes went with an earlier node."""
    stored = {entry["name"]: entry for entry in pod["status"].get("containerStatuses") or []}
    found = []
    for spec in pod["spec"]["containers"]:
        entry = stored.get(spec["name"]) or {}
        gone = (entry.get("state") or {}).get("terminated")
        state = LOST if gone is None else _terminated_from(gone)
        found.append(Container(spec["name"], spec["image"], state, id=entry.get("containerID", "")))
    return tuple(found)


def phase(known: Known) -> str:
    """Pending, Running, Succeeded or Failed."""
    states = [container.state for container in known.containers]
    if known.rejected:
        return "Failed"
    if not states or any(isinstance(state, Waiting) for state in states):
        return "Pending"
    if any(isinstance(state, Running) for state in states):
        return "Running"
    codes = [state.exit_code for state in states if isinstance(state, Terminated)]
    return "Failed" if known.verdict or any(codes) else "Succeeded"


def pod_status(pod: Object, known: Known, now: datetime) -> Object:
    """The whole status: what is ours replaced, what others wrote (their conditions, qosClass) kept."""
    old: Object = pod.get("status") or {}
    new_phase = phase(known)
    status: Object = {key: value for key, value in old.items() if key not in ("reason", "message")}
    status["phase"] = new_phase
    status["startTime"] = timestamp(known.started_at)
    status["hostIP"] = known.host_ip
    status["hostIPs"] = [{"ip": known.host_ip}]
    if "generation" in pod["metadata"]:
        status["observedGeneration"] = pod["metadata"]["generation"]
    if known.pod_ip:
        status["podIP"] = known.pod_ip
        status["podIPs"] = [{"ip": known.pod_ip}]
    if known.verdict and new_phase == "Failed":
        status["reason"], status["message"] = known.verdict.reason, known.verdict.message
    elif new_phase == old.get("phase"):
        status |= {key: old[key] for key in ("reason", "message") if key in old}
    if known.containers:
        status["containerStatuses"] = [_container_status(container) for container in known.containers]
    if known.rejected:
        # A kubelet says no more of it than why.
        status["conditions"] = [c for c in old.get("conditions") or [] if c["type"] not in KUBELET_CONDITIONS]
    else:
        status["conditions"] = _conditions(pod, known, new_phase, now)
    return status


def timestamp(at: datetime) -> str:
    """As Kubernetes writes it: whole seconds, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parsed(text: str) -> datetime:
    """The reverse of ``timestamp``."""
    return datetime.fromisoformat(text)


def _container_status(container: Container) -> Object:
    running = isinstance(container.state, Running)
    status: Object = {
        "name": container.name,
        "image": container.image,
        "imageID": f"process://{container.image}" if container.id else "",
        "state": _state(container.state, container.id),
        "lastState": {},
        "ready": running and container.ready,
        "started": running and container.started,
        "restartCount": 0,
    }
    if container.id:
        status["containerID"] = container.id
    return status


def _state(state: State, container_id: str) -> Object:
    if isinstance(state, Waiting):
        return {"waiting": _filled(reason=state.reason, message=state.message)}
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    ends = {"startedAt": state.started_at, "finishedAt": state.finished_at}
    return {
        "terminated": {
            "exitCode": state.exit_code,
            "reason": state.reason,
            # The API server writes null for a time that isn't known.
            **{key: timestamp(at) if at else None for key, at in ends.items()},
            **_filled(message=state.message, containerID=container_id),
        }
    }


def _terminated_from(entry: Object) -> Terminated:
    return Terminated(
        entry["exitCode"],
        entry.get("reason", ""),
        entry.get("message", ""),
        *(parsed(entry[key]) if entry.get(key) else None for key in ("startedAt", "finishedAt")),
    )


def _filled(**values: str) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def _conditions(pod: Object, known: Known, new_phase: str, now: datetime) -> list[Object]:
    old: list[Object] = (pod.get("status") or {}).get("conditions") or []
    by_type = {condition["type"]: condition for condition in old}
    sandbox = known.pod_ip is not None and new_phase not in TERMINAL
    ready = _ready(known.containers, new_phase)
    initialized: Object = {"status": "True"}
    if new_phase == "Succeeded":
        initialized["reason"] = "PodCompleted"
    ours: dict[str, Object] = {
        "PodReadyToStartContainers": (
            {"status": "True"} if sandbox else {"status": "False", "reason": "PodSandboxNotReady"}
        ),
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    if known.verdict and known.verdict.disruption and new_phase == "Failed":
        ours["DisruptionTarget"] = {
            "status": "True",
            "reason": "TerminationByKubelet",
            "message": known.verdict.message,
        }
    made = [_condition(kind, content, by_type.get(kind), pod, now) for kind, content in ours.items()]
    return made + [condition for condition in old if condition["type"] not in ours]


def _condition(kind: str, content: Object, before: Object | None, pod: Object, now: datetime) -> Object:
    same = before is not None and before["status"] == content["status"]
    since = before["lastTransitionTime"] if same and before else timestamp(now)
    generation: dict[str, Any] = {}
    if "generation" in pod["metadata"]:
        generation["observedGeneration"] = pod["metadata"]["generation"]
    return {"type": kind, "lastProbeTime": None, "lastTransitionTime": since, **content, **generation}


def _ready(containers: Sequence[Container], new_phase: str) -> Object:
    if new_phase in TERMINAL:
        return {"status": "False", "reason": "PodCompleted" if new_phase == "Succeeded" else "PodFailed"}
    unready = [c.name for c in containers if not (isinstance(c.state, Running) and c.ready)]
    if unready or not containers:
        names = " ".join(unready)
        message = f"containers with unready status: [{names}]"
        return {"status": "False", "reason": "ContainersNotReady", "message": message}
    return {"status": "True"}
