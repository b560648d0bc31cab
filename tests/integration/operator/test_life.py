"""A session's life on the real control plane."""

import base64
import json
from collections import Counter

import jwt

from pipecat_local.processes import wait_until
from support.operated import BY_OPERATOR, DAILY_KEY, Operated, get
from support.words import USER_LEFT


def decoded(operated: Operated, uid: str) -> dict[str, str]:
    """The session's Secret."""
    data = operated.get("secret", f"bs-{uid}")["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_a_whole_life_and_nothing_left(operated: Operated):
    uid = operated.session(
        body={"end": USER_LEFT}, user={"name": "Ada", "id": "7"}, session={"ttlSecondsAfterFinished": 3}
    )
    status = operated.until_phase("Running")
    assert status["room"]["name"] == f"{operated.namespace}-{uid}"
    assert status["jobName"] == status["credentialsSecretName"] == f"bs-{uid}"
    assert operated.rooms() == [status["room"]["name"]]
    secret = decoded(operated, uid)
    assert secret["roomUrl"] == status["room"]["url"]
    user, bot = (jwt.decode(secret[key], DAILY_KEY, algorithms=["HS256"]) for key in ("userToken", "botToken"))
    assert (bot["o"], user["o"], user["u"], user["ud"], user["r"]) == (True, False, "Ada", "7", status["room"]["name"])
    (pod,) = operated.items("pods")
    assert (pod["metadata"]["name"], pod["status"]["podIP"]) == (status["podName"], status["podIP"])

    # The user hangs up: the scripted bot says so when it is told to end.
    operated.kubectl("delete", "pod", status["podName"], "--wait=false")
    status = operated.until_ended()
    assert (status["phase"], status["endReason"]) == ("Succeeded", "UserLeft")
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "RoomReady": "True",
        "JobCreated": "True",
        "BotReady": "False",
        "Finished": "True",
    }
    wait_until("the room to go", lambda: not operated.rooms(), 20)
    wait_until("the session to go", lambda: not operated.items("botsessions"), 20)
    wait_until("Job, pod and Secret to go", lambda: not operated.kubectl("get", "jobs,pods,secrets", "-o", "name"), 30)


def test_five_api_writes_a_life(operated: Operated):
    operated.session(body={"end": USER_LEFT, "now": True, "join": False})
    operated.until_ended()
    operated.session("joined", body={"end": USER_LEFT})
    status = operated.until_phase("Running", name="joined")
    operated.kubectl("delete", "pod", status["podName"], "--wait=false")
    operated.until_ended("joined")
    uid = operated.get("botsession", "joined")["metadata"]["uid"]
    writes = Counter()
    for entry in operated.cluster.audited(operated.namespace, BY_OPERATOR):
        of = entry["objectRef"]
        if of.get("name") in ("joined", f"bs-{uid}") and entry["responseStatus"]["code"] < 300:
            writes[f"{entry['verb']} {of['resource']}{'/' + of['subresource'] if of.get('subresource') else ''}"] += 1
    assert writes == {"create secrets": 1, "create jobs": 1, "patch botsessions/status": 3}


def test_a_room_of_ones_own_is_neither_made_nor_deleted(operated: Operated):
    operated.kubectl("create", "secret", "generic", "mine", "--from-literal=token=their-token")
    uid = operated.session(
        room={"url": "https://example.test/mine", "tokenSecretRef": {"name": "mine"}}, body={"end": USER_LEFT}
    )
    status = operated.until_phase("Running")
    assert status["room"] == {"url": "https://example.test/mine"}
    assert operated.rooms() == []
    assert set(decoded(operated, uid)) == {"roomUrl", "body"}


def test_room_properties_bot_below_session_below_the_operators(operated: Operated):
    operated.bot("shaped", room={"enable_chat": True, "max_participants": 2})
    operated.session(bot="shaped", room={"max_participants": 5})
    operated.until_phase("Running")
    state = json.loads(get(f"{operated.daily.ready['url']}/_standin/state")[1])
    (room,) = [room for room in state["rooms"] if room["name"].startswith(operated.namespace)]
    assert (room["privacy"], room["config"]["enable_chat"], room["config"]["max_participants"]) == ("private", True, 5)
    assert room["config"]["eject_at_room_exp"] is True


def test_tokens_by_rest(idle: Operated):
    idle.bot()
    idle.start(PIPECAT_OPERATOR_DAILY_TOKENS="rest")
    uid = idle.session()
    idle.until_phase("Running")
    token = jwt.decode(decoded(idle, uid)["userToken"], DAILY_KEY, algorithms=["HS256"])
    assert token["r"] == f"{idle.namespace}-{uid}"


def test_deleting_a_session_ends_its_bot_and_room(operated: Operated):
    operated.session()
    operated.until_phase("Running")
    operated.kubectl("delete", "botsession", "s")
    wait_until("the room to go", lambda: not operated.rooms(), 20)
    wait_until("Job, pod and Secret to go", lambda: not operated.kubectl("get", "jobs,pods,secrets", "-o", "name"), 30)


def test_a_bot_that_comes_late_is_waited_for(operated: Operated):
    operated.session(bot="late")
    status = operated.until(lambda status: status.get("message"))
    assert "'late'" in status["message"]
    assert operated.events()[0][0] == "BotNotFound"
    operated.bot("late")
    operated.until_phase("Running")


def test_the_bot_tells_its_live_sessions(operated: Operated):
    operated.session()
    wait_until("one", lambda: operated.get("bot", "bot").get("status", {}).get("liveSessions") == 1, 20)
    operated.kubectl("patch", "botsession", "s", "--type=merge", "-p", '{"spec":{"stop":true}}')
    wait_until("none", lambda: operated.get("bot", "bot")["status"]["liveSessions"] == 0, 20)


def test_metrics_and_probes(operated: Operated):
    operated.session(body={"end": USER_LEFT, "now": True})
    operated.until_ended()
    assert get(f"{operated.metrics_url}/healthz")[0] == 200
    assert get(f"{operated.metrics_url}/readyz")[0] == 200
    text = get(f"{operated.metrics_url}/metrics")[1]
    assert 'pipecat_sessions_ended_total{phase="Succeeded",reason="UserLeft"} 1.0' in text
    assert 'pipecat_daily_request_seconds_count{operation="create_room",outcome="200"} 1.0' in text
    for name in (
        "pipecat_session_job_created_seconds_count 1.0",
        "pipecat_queue_depth",
        'pipecat_sessions{phase="Running"}',
    ):
        assert name in text


def test_one_log_line_a_transition_as_json_when_asked(idle: Operated):
    idle.bot()
    child = idle.start(PIPECAT_OPERATOR_LOG_FORMAT="json")
    uid = idle.session(body={"end": USER_LEFT})
    status = idle.until_phase("Running")
    idle.kubectl("delete", "pod", status["podName"], "--wait=false")
    idle.until_ended()
    lines = [json.loads(line)["record"]["message"] for line in child.log().splitlines()]
    reached = [line.partition(" -> ")[2].partition(",")[0] for line in lines if uid in line and " -> " in line]
    assert reached == ["Starting", "Running", "Succeeded"]
