"""A pod's status, as kubelet would write it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.node import status
from pipecat_local.node.status import LOST, Container, Known, Running, State, Terminated, Verdict, Waiting

T0 = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
LATER = T0 + timedelta(minutes=1)
OURS = {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}

states = st.one_of(
    st.just(Waiting()),
    st.just(Running(T0)),
    st.builds(
        Terminated, st.sampled_from([0, 1, 137]), st.just("Error"), started_at=st.just(T0), finished_at=st.just(T0)
    ),
)
containers = st.lists(
    st.builds(Container, st.just("bot"), st.just("i"), states, st.booleans(), st.booleans()), max_size=3
)
known = st.builds(
    Known,
    st.just("127.0.0.1"),
    st.just(T0),
    containers.map(tuple),
    st.sampled_from([None, "127.64.0.9"]),
    st.sampled_from([None, Verdict("DeadlineExceeded", "late"), Verdict("Terminated", "shutdown", disruption=True)]),
)


def pod(old: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "generation": 2},
        "spec": {"containers": [{"name": "bot", "image": "i"}]},
        "status": old or {},
    }


def one(state: State, ready: bool = False, **more: Any) -> Known:
    container = Container("bot", "i", state, ready, started=True, id="process://1")
    return Known("127.0.0.1", T0, (container,), "127.64.0.9", **more)


def written(what: Known, old: dict[str, Any] | None = None) -> dict[str, Any]:
    return status.pod_status(pod(old), what, LATER)


def conditions(of: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in of["conditions"]}


@pytest.mark.parametrize(
    ("state", "ready", "phase", "is_ready"),
    [
        (Waiting(), False, "Pending", "False"),
        (Running(T0), False, "Running", "False"),
        (Running(T0), True, "Running", "True"),
        (Terminated(0, "Completed"), False, "Succeeded", "False"),
        (Terminated(3, "Error"), False, "Failed", "False"),
        (LOST, False, "Failed", "False"),
    ],
)
def test_phase_and_readiness(state: State, ready: bool, phase: str, is_ready: str) -> None:
    found = written(one(state, ready))
    assert (found["phase"], conditions(found)["Ready"], conditions(found)["ContainersReady"]) == (
        phase,
        is_ready,
        is_ready,
    )


@given(known)
def test_the_whole_agrees_with_its_parts(what: Known) -> None:
    found = written(what)
    phase, kinds = found["phase"], conditions(found)
    entries = found.get("containerStatuses", [])
    in_state = [next(iter(entry["state"])) for entry in entries]
    assert set(kinds) >= OURS
    assert (phase in ("Succeeded", "Failed")) == (bool(entries) and set(in_state) == {"terminated"})
    assert (phase == "Running") == ("running" in in_state and "waiting" not in in_state)
    assert kinds["Ready"] == kinds["ContainersReady"] == str(bool(entries) and all(e["ready"] for e in entries))
    assert all(entry["state"].get("running") for entry in entries if entry["ready"])
    if phase == "Succeeded":
        assert all(entry["state"]["terminated"]["exitCode"] == 0 for entry in entries)
    assert ("reason" in found) == (phase == "Failed" and what.verdict is not None)
    assert ("DisruptionTarget" in kinds) == (phase == "Failed" and what.verdict is not None and what.verdict.disruption)


@given(known, known)
def test_writing_it_again_changes_nothing(before: Known, what: Known) -> None:
    found = written(what, written(before))
    assert status.pod_status(pod(found), what, LATER + timedelta(hours=1)) == found


@given(known)
def test_what_others_wrote_is_kept(what: Known) -> None:
    other = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "lastTransitionTime": "x"}
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    what = replace(what, verdict=None)
    found = written(what, {"qosClass": "Burstable", "conditions": [other, scheduled]})
    assert other in found["conditions"]
    assert found["qosClass"] == "Burstable"
    since = next(c["lastTransitionTime"] for c in found["conditions"] if c["type"] == "PodScheduled")
    assert since == "2026-01-01T00:00:00Z"


def test_a_deadline_fails_even_a_clean_exit() -> None:
    found = written(one(Terminated(0, "Completed"), verdict=Verdict("DeadlineExceeded", "late")))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "late")


def test_a_verdict_waits_for_the_last_container() -> None:
    found = written(one(Running(T0), verdict=Verdict("DeadlineExceeded", "late")))
    assert (found["phase"], "reason" in found) == ("Running", False)


def test_a_container_s_end_in_full() -> None:
    ended = Terminated(3, "Error", "why", T0, LATER)
    (entry,) = written(one(ended))["containerStatuses"]
    assert entry == {
        "name": "bot",
        "image": "i",
        "imageID": "process://i",
        "containerID": "process://1",
        "lastState": {},
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {
            "terminated": {
                "exitCode": 3,
                "reason": "Error",
                "message": "why",
                "startedAt": "2026-01-02T03:04:05Z",
                "finishedAt": "2026-01-02T03:05:05Z",
                "containerID": "process://1",
            }
        },
    }


@given(known)
def test_a_pod_restored_from_its_status_is_over(what: Known) -> None:
    before = pod(written(what))
    before["spec"]["containers"] = [{"name": c.name, "image": c.image} for c in what.containers]
    after = status.restored(before)
    assert all(status.ended(container.state) for container in after)
    ends = {c.name: c.state.exit_code for c in what.containers if isinstance(c.state, Terminated)}
    if len(what.containers) == 1:
        expected = ends.get("bot", 137)
        assert [c.state.exit_code for c in after if isinstance(c.state, Terminated)] == [expected]
        assert status.was_started(before) == (not isinstance(what.containers[0].state, Waiting))


def test_giving_up_keeps_an_end_that_is_known() -> None:
    ended = Container("bot", "i", Terminated(0, "Completed"))
    assert status.give_up(ended) == ended
    assert status.give_up(Container("bot", "i", Running(T0), ready=True)) == Container("bot", "i", LOST)
