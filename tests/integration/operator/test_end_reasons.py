"""Every end reason, as the cluster really brings it about."""

import json

import pytest

from support.operated import Operated

QUICK = {"startTimeoutSeconds": 3, "terminationGracePeriodSeconds": 2}


@pytest.mark.parametrize("reason", ["UserLeft", "BotFinished", "MaxDuration", "NoShow", "Idle", "Ejected"])
def test_what_the_bots_host_says(operated: Operated, reason: str):
    operated.session(body={"now": True, "end": {"reason": reason, "message": f"it was {reason}"}})
    status = operated.until_ended()
    assert (status["phase"], status["endReason"], status["message"]) == ("Succeeded", reason, f"it was {reason}")
    assert operated.events() == []


@pytest.mark.parametrize(
    ("code", "reason"), [(64, "BadConfig"), (70, "BotFailed"), (75, "JoinFailed"), (3, "BotFailed")]
)
def test_exit_codes(operated: Operated, code: int, reason: str):
    operated.session(body={"now": True, "code": code})
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Failed", reason)
    assert str(code) in status["message"]
    assert operated.events() == [(reason, status["message"])]


def test_stopped(operated: Operated):
    operated.session()
    operated.until_phase("Running")
    operated.kubectl("patch", "botsession", "s", "--type=merge", "-p", '{"spec":{"stop":true}}')
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Succeeded", "Stopped")
    assert operated.items("jobs"), "the Job stays as a record until the TTL"


def test_stopped_before_it_was_started(operated: Operated):
    operated.session(stop=True)
    assert operated.until_ended()["endReason"] == "Stopped"
    assert (operated.items("jobs"), operated.rooms()) == ([], [])


def test_a_bot_that_ignores_sigterm_is_killed_after_its_grace(operated: Operated):
    operated.session(body={"deaf": True}, session=QUICK)
    operated.until_phase("Running")
    operated.kubectl("patch", "botsession", "s", "--type=merge", "-p", '{"spec":{"stop":true}}')
    assert operated.until_phase("Ending", "Succeeded")["endReason"] == "Stopped"
    assert operated.until_ended()["endReason"] == "Stopped"


@pytest.mark.parametrize("kind", ["pod", "job"])
def test_deleted_by_hand(operated: Operated, kind: str):
    operated.session()
    status = operated.until_phase("Running")
    operated.kubectl("delete", kind, status[f"{kind}Name"], "--wait=false")
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Failed", "BotDeleted")


def test_evicted(operated: Operated):
    operated.session()
    pod = operated.until_phase("Running")["podName"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": operated.namespace},
    }
    path = f"/api/v1/namespaces/{operated.namespace}/pods/{pod}/eviction"
    operated.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    assert operated.until_ended()["endReason"] == "Evicted"


@pytest.mark.parametrize(
    ("bot", "reason", "says"),
    [
        ({"image": "nowhere:1"}, "ImagePullFailed", "nowhere:1"),
        ({"resources": {"requests": {"cpu": "900"}, "limits": {}}}, "Unschedulable", "Insufficient cpu"),
        ({"envFrom": [{"secretRef": {"name": "missing"}}]}, "BadConfig", "missing"),
        ({"podTemplate": {"spec": {"serviceAccountName": "nobody"}}}, "PodRefused", "nobody"),
    ],
)
def test_a_start_that_cannot_be(operated: Operated, bot: dict, reason: str, says: str):
    operated.bot("hopeless", **bot)
    operated.session(bot="hopeless", session=QUICK)
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Failed", reason)
    assert says in status["message"]
    assert (reason, status["message"]) in operated.events()


def test_trouble_is_shown_before_the_timeout(operated: Operated):
    operated.bot("hopeless", image="nowhere:1")
    operated.session(bot="hopeless")
    status = operated.until(lambda status: "nowhere:1" in status.get("message", ""))
    ready = next(c for c in status["conditions"] if c["type"] == "BotReady")
    assert (status["phase"], ready["status"], ready["reason"]) == ("Starting", "False", "ImagePullFailed")


def test_never_in_the_room(operated: Operated):
    operated.session(body={"join": False}, session=QUICK)
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Failed", "StartTimeout")
    assert "see the log of pod" in status["message"]


def test_no_bot(operated: Operated):
    operated.session(bot="nobody", session=QUICK)
    assert operated.until_ended()["endReason"] == "BotNotFound"


def test_past_the_jobs_deadline(operated: Operated):
    limits = {"startTimeoutSeconds": 10, "maxDurationSeconds": 1, "terminationGracePeriodSeconds": 1}
    operated.session(session=limits)
    operated.until_phase("Running")
    assert operated.until_ended(wait_s=90)["endReason"] == "DeadlineExceeded"


def test_a_room_that_daily_refuses(operated: Operated):
    operated.session(room={"max_participants": "many"})
    status = operated.until_ended()
    assert status["endReason"] == "RoomFailed"
    assert "max_participants" in status["message"]
    assert operated.items("jobs") == []


def test_a_wrong_daily_key(idle: Operated):
    idle.bot()
    idle.start(DAILY_API_KEY="wrong")
    idle.session()
    status = idle.until_ended()
    assert status["endReason"] == "RoomFailed"
    assert "authentication-error" in status["message"]


def test_a_body_too_large(operated: Operated):
    operated.session(body={"text": "x" * (64 * 1024)})
    status = operated.until_ended()
    assert status["endReason"] == "BodyTooLarge"
    assert (operated.items("secrets"), operated.rooms()) == ([], [])


@pytest.mark.parametrize(
    "template", [{"spec": {"restartPolicy": "Always"}}, {"spec": {"containers": [{"name": "bot", "env": "x"}]}}]
)
def test_a_pod_template_that_cannot_be(operated: Operated, template: dict):
    operated.bot("crooked", podTemplate=template)
    operated.session(bot="crooked")
    assert operated.until_ended()["endReason"] == "InvalidPodTemplate"
    assert operated.items("jobs") == []
    ready = operated.get("bot", "crooked").get("status", {}).get("conditions", [])
    assert all(condition["status"] == "False" for condition in ready)
