"""What an operator is trusted for: crashes, hand-overs, a Daily that fails, somebody in the way."""

import json
import os
import signal

import pytest

from pipecat_local.processes import wait_until
from support.keys import IN_A_BODY, KEYS
from support.leaks import leaks
from support.operated import Operated, get, hang_up, set_faults
from support.words import USER_LEFT


def test_a_crash_loses_nothing(operated: Operated):
    uid = operated.session(body={"end": USER_LEFT})
    pod = operated.until_phase("Running")["podName"]
    operated.session("waiting", bot="late")
    operated.until(lambda status: status.get("message"), name="waiting")
    operated._operators[-1].stop(kill=True)
    hang_up(uid)
    wait_until("the bot to end", lambda: operated.get("pod", pod)["status"]["phase"] == "Succeeded", 20)
    operated.bot("late")
    operated.session("new", body={"end": USER_LEFT, "now": True})
    # Its Lease was not released: the next one waits until it has run out.
    operated.start()
    assert operated.until_ended()["endReason"] == "UserLeft"
    assert operated.until_ended("new")["endReason"] == "UserLeft"
    operated.until_phase("Running", name="waiting")
    assert len([job for job in operated.items("jobs") if job["metadata"]["name"] == f"bs-{uid}"]) == 1
    wait_until("the rooms of the ended sessions to go", lambda: len(operated.rooms()) == 1, 30)


def test_the_lease_is_handed_over_at_once(operated: Operated):
    first = operated._operators[0]
    second = operated.start(wait=False)
    wait_until("the second to stand by", lambda: get(f"{operated.metrics_url}/readyz")[0] == 200, 20)
    assert "Leading" not in second.log()
    assert first.stop() == 0
    released = operated.get("lease", "pipecat-operator")["spec"]
    assert released["leaseTransitions"] <= 1
    wait_until("the second to lead", lambda: "Ready:" in second.log(), 20)
    operated.session()
    operated.until_phase("Running")


def test_a_leader_that_is_not_ready_tells_of_no_sessions(idle: Operated):
    """So that nobody takes it for one that serves."""
    idle.kubectl("create", "serviceaccount", "half")
    idle.kubectl("create", "role", "half", "--verb=get,create,update", "--resource=leases")
    idle.kubectl("create", "rolebinding", "half", "--role=half", f"--serviceaccount={idle.namespace}:half")
    kubeconfig = idle.cluster.kubeconfig_for_service_account(idle.namespace, "half")
    operator = idle.start(wait=False, KUBECONFIG=str(kubeconfig))
    wait_until("it to lead", lambda: "Leading" in operator.log(), 20)
    wait_until("it to say why", lambda: "caches" in get(f"{idle.metrics_url}/readyz")[1], 20)
    assert "pipecat_sessions{" not in get(f"{idle.metrics_url}/metrics")[1]
    idle.kubectl("create", "rolebinding", "whole", "--clusterrole=admin", f"--serviceaccount={idle.namespace}:half")
    idle.kubectl("create", "role", "whole", "--verb=*", "--resource=botsessions.pipecat.dev,bots.pipecat.dev")
    idle.kubectl("create", "rolebinding", "ours", "--role=whole", f"--serviceaccount={idle.namespace}:half")
    wait_until("it to be ready", lambda: get(f"{idle.metrics_url}/readyz")[0] == 200, 60)
    assert "pipecat_sessions{" in get(f"{idle.metrics_url}/metrics")[1]


def test_a_leader_that_was_frozen_ends_without_another_word(operated: Operated):
    first = operated._operators[0]
    os.kill(first.pid, signal.SIGSTOP)
    second = operated.start()
    uid = operated.session(body={"end": USER_LEFT})
    operated.until_phase("Running")
    os.kill(first.pid, signal.SIGCONT)
    wait_until("the first to end", lambda: first.ended() is not None, 30)
    assert first.ended() == 1
    assert "Leadership lost" in first.log()
    assert uid not in first.log(), "it took no part in what happened while it was frozen"
    assert second.ended() is None
    hang_up(uid)
    assert operated.until_ended()["endReason"] == "UserLeft"


@pytest.mark.parametrize(
    "fault",
    [
        {"method": "POST", "status": 500, "calls": 2},
        {"method": "POST", "status": 429, "calls": 1, "retry_after": 1},
        {"method": "POST", "status": 0, "calls": 1},
        {"method": "POST", "status": 503, "calls": 1, "after": True},
        {"method": "POST", "status": 0, "calls": 1, "after": True},
        {"method": "GET", "status": 500, "calls": 2},
    ],
    ids=["500", "429", "dropped", "503-but-made", "dropped-but-made", "domain-500"],
)
def test_daily_fails_for_a_while(faulty: Operated, fault: dict):
    set_faults(faulty.daily, fault)
    faulty.session(body={"end": USER_LEFT})
    faulty.until_phase("Running")
    assert (faulty.daily_state()["rooms_made"], len(faulty.items("jobs")), len(faulty.items("secrets"))) == (1, 1, 1)


def test_a_session_deleted_while_it_is_started_leaves_no_room(faulty: Operated):
    set_faults(faulty.daily, {"method": "POST", "status": 503, "calls": 20, "after": True})
    faulty.session()
    wait_until("a room whose making was not answered", faulty.rooms, 20)
    faulty.kubectl("delete", "botsession", "s")
    wait_until("the room to go", lambda: not faulty.rooms(), 20)
    assert not faulty.kubectl("get", "jobs,pods,secrets", "-o", "name")


def test_a_deletion_that_fails_is_tried_again(faulty: Operated):
    set_faults(faulty.daily, {"method": "DELETE", "status": 503, "calls": 1})
    faulty.session(body={"end": USER_LEFT, "now": True})
    faulty.until_ended()
    wait_until("the room to go", lambda: not faulty.rooms(), 30)


def test_somebody_elses_job_stands_in_the_way(idle: Operated):
    idle.bot()
    uid = idle.session()
    pod = {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x"}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"bs-{uid}"},
        "spec": {"template": {"spec": pod}},
    }
    idle.kubectl("create", "-f", "-", stdin=json.dumps(job))
    idle.start()
    status = idle.until_ended()
    assert status["endReason"] == "BadConfig"
    assert f"bs-{uid}" in status["message"]
    assert idle.get("job", f"bs-{uid}"), "it is not ours to delete"


def test_no_secret_is_told_anywhere(operated: Operated):
    uid = operated.session(body={"end": USER_LEFT, "pin": IN_A_BODY})
    pod = operated.until_phase("Running")["podName"]
    operated.kubectl("delete", "pod", pod)
    operated.until_ended()
    told = [operated.kubectl("get", "jobs,pods,events", "-o", "json"), operated._operators[0].log()]
    told += [json.dumps(operated.get("botsession", "s")["status"]), get(f"{operated.metrics_url}/metrics")[1]]
    secret = operated.get("secret", f"bs-{uid}")["data"]
    for text in told:
        assert not list(leaks(text.encode(), KEYS))
        assert secret["botToken"] not in text
        assert secret["userToken"] not in text
