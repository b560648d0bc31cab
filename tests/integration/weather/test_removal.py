"""What a session stands on is taken away: its namespace, the operator itself."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import wait_until
from support.operated import Child, Operated, new_namespace, set_domain
from support.weather import PATIENT, QUICK, told, unharmed


def test_a_namespace_is_deleted(idle: Operated, cluster: Cluster, pool: str, daily: Child, tmp_path: Path):
    """Its sessions' rooms go, nothing holds it up, the others are served though the rights went with it."""
    with new_namespace(cluster, pool, daily, tmp_path / "other") as other:
        settings = {"PIPECAT_OPERATOR_WATCH_NAMESPACES": f"{other.namespace},{idle.namespace}"}
        for namespace in (idle, other):
            namespace.bot()
        idle.start(**settings)
        with unharmed(idle):
            other.session("running")
            other.session("waiting", bot="late", session=PATIENT)
            other.until_phase("Running", name="running")
            other.until(lambda status: status.get("message"), name="waiting")
            cluster.kubectl("delete", "namespace", other.namespace, "--timeout=60s")
            wait_until("the room to go", lambda: len(idle.rooms()) == 1, 30)
            idle.session("new", session=PATIENT)
            idle.until_phase("Running", name="new")
            # Started again, it must not wait for a namespace that is not there.
            idle.operator.stop()
            idle.start(**settings)
            idle.kubectl("delete", "botsession", "new")


def test_the_operator_is_uninstalled_with_sessions_live(faulty: Operated):
    """Nothing of ours waits for it: all can be deleted, and the rooms expire."""
    for name in ("one", "two"):
        faulty.session(name)
        faulty.until_phase("Running", name=name)
    faulty.session("waiting", bot="late")
    faulty.until(lambda status: status.get("message"), name="waiting")
    faulty.operator.stop()
    for kind in ("botsessions", "bots", "jobs", "secrets"):
        assert [item["metadata"].get("finalizers") for item in faulty.items(kind)].count(None) == len(
            faulty.items(kind)
        )
    faulty.kubectl("delete", "botsessions,bots", "--all", "--timeout=20s")
    wait_until("Job, pod and Secret to go", lambda: not faulty.kubectl("get", "jobs,pods,secrets", "-o", "name"), 60)
    rooms = [room for room in faulty.daily_state()["rooms"] if room["name"] in faulty.rooms()]
    assert len(rooms) == 2
    last = max(room["config"]["exp"] for room in rooms)
    assert all(room["config"]["eject_at_room_exp"] for room in rooms)
    set_domain(faulty.daily, ahead_s=3600)
    assert len(faulty.rooms()) == 2, "nobody deletes a room before its time"
    set_domain(faulty.daily, ahead_s=3600 + 180 + 30 + 30 + 60 + 1)
    assert faulty.rooms() == [], f"they expire with the last deadline of a session, {last}"


def test_the_operator_was_away_for_longer_than_the_start_timeout(idle: Operated):
    """A call nobody waits for any more is not begun."""
    idle.bot()
    idle.session(session={**QUICK, "startTimeoutSeconds": 1})
    wait_until("the timeout", lambda: older_than(idle.get("botsession", "s"), 2), 20, 0.2)
    idle.start()
    told(idle).check("StartTimeout", "the operator was away, or its clock is ahead of the API server's")
    assert (idle.items("jobs"), idle.rooms()) == ([], [])
    with unharmed(idle):
        pass


def older_than(thing: dict[str, Any], seconds: float) -> bool:
    """By our clock, which is the operator's, too."""
    created = datetime.fromisoformat(thing["metadata"]["creationTimestamp"])
    return (datetime.now(UTC) - created).total_seconds() > seconds
