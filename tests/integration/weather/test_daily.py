"""Daily says no, has another time, or loses what it was given."""

import base64
import urllib.request
from pathlib import Path

import pytest

from pipecat_local.processes import wait_until
from support.operated import DAILY_KEY, REAL, Operated, get, set_domain, set_faults
from support.weather import TTL, condition, stop, told, unharmed
from support.words import USER_LEFT

PLAIN = Path(__file__).parents[1] / "bot" / "bots" / "plain.py"


def delete_by_hand(operated: Operated, room: str, key: str = DAILY_KEY) -> None:
    """As somebody does in Daily's dashboard."""
    url = f"{operated.daily.ready['api_url']}/rooms/{room}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"}, method="DELETE")
    urllib.request.urlopen(request, timeout=5).close()


def admits(operated: Operated, uid: str) -> bool:
    """Whether Daily takes both tokens of the session now."""
    data = operated.get("secret", f"bs-{uid}")["data"]
    tokens = [base64.b64decode(data[key]).decode() for key in ("botToken", "userToken")]
    url = f"{operated.daily.ready['api_url']}/meeting-tokens"
    for token in tokens:
        request = urllib.request.Request(f"{url}/{token}", headers={"Authorization": f"Bearer {DAILY_KEY}"})
        try:
            urllib.request.urlopen(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            with error:
                return False
    return True


# The key


def test_the_key_is_wrong_from_the_start(idle: Operated):
    """Nothing says so at start but the log; a session says it at once. The right key, and it works."""
    idle.bot()
    wrong = idle.start(DAILY_API_KEY="wrong")
    wait_until("the sweep", lambda: "Give the operator a valid DAILY_API_KEY and restart it" in wrong.log(), 20)
    idle.session(session=TTL)
    told(idle).check("RoomFailed", "(401): authentication-error", "Give the operator a valid DAILY_API_KEY")
    assert wrong.stop() == 0
    idle.start()
    with unharmed(idle):
        pass


def test_the_key_is_revoked_while_sessions_run(faulty: Operated):
    """Who is in a room stays there; new sessions fail at once; the rooms go when there is a key again."""
    faulty.session("running", body={"end": USER_LEFT})
    faulty.until_phase("Running", name="running")
    set_domain(faulty.daily, api_key="another")
    faulty.session("new")
    told(faulty, "new").check("RoomFailed", "(401): authentication-error", "Give the operator a valid DAILY_API_KEY")
    stop(faulty, "running")
    told(faulty, "running").check("Stopped")
    wait_until("the room to be given up", lambda: "is left to expire" in faulty.operator.log(), 20)
    assert faulty.operator.ended() is None
    assert len(faulty.rooms()) == 1
    assert 'outcome="401"' in get(f"{faulty.metrics_url}/metrics")[1]
    set_domain(faulty.daily, api_key=DAILY_KEY)
    faulty.operator.stop()
    faulty.start()
    with unharmed(faulty):  # its bystander runs: what is deleted now is known to the new operator
        faulty.kubectl("delete", "botsessions", "running", "new")


# Its limits


@pytest.mark.parametrize("status", [400, 403])
def test_the_plan_allows_no_more_rooms(faulty: Operated, status: int):
    """Daily does not document with which status it says so; its sentence is handed on."""
    with unharmed(faulty):
        set_faults(faulty.daily, {"method": "POST", "status": status, "info": "you have reached your plan's rooms"})
        faulty.session(session=TTL)
        told(faulty).check("RoomFailed", f"({status})", "you have reached your plan's rooms")


def test_the_rate_limit_is_reached(faulty: Operated):
    """Then it is tried again, as late as Daily asks, and told meanwhile."""
    with unharmed(faulty):
        set_faults(faulty.daily, {"method": "POST", "status": 429, "calls": 3, "retry_after": 2})
        faulty.session(session=TTL, body={"end": USER_LEFT, "now": True})
        status = faulty.until(lambda status: status.get("message"))
        assert condition(status, "RoomReady")[:2] == ("False", "RoomFailed")
        assert "(429): rate-limit-error" in status["message"]
        assert faulty.until_ended()["endReason"] == "UserLeft"


def test_daily_is_not_there_for_longer_than_the_start_timeout(faulty: Operated):
    with unharmed(faulty):
        set_faults(faulty.daily, {"method": "POST", "status": 0, "calls": 1000})
        faulty.session(session={**TTL, "startTimeoutSeconds": 3})
        told(faulty).check("RoomFailed", "Daily gave no answer to create_room", "Check the operator's way to Daily")
        set_faults(faulty.daily)


# Rooms deleted by hand


def real_bot(operated: Operated, **more: object) -> None:
    """A Bot that really joins."""
    env = [{"name": "PIPECAT_BOT_FILE", "value": str(PLAIN)}]
    operated.bot("real", image=REAL, env=env, **more)


def test_a_room_is_deleted_before_the_bot_joins(operated: Operated):
    """The bot waits for a ConfigMap; meanwhile somebody deletes its room."""
    real_bot(operated, envFrom=[{"configMapRef": {"name": "late"}}])
    with unharmed(operated):
        operated.session(bot="real", session=TTL)
        room = operated.until_phase("Starting")["room"]["name"]
        delete_by_hand(operated, room)
        operated.kubectl("create", "configmap", "late", "--from-literal=A=b")
        told(operated).check("JoinFailed", "does not exist")


def test_a_room_is_deleted_while_its_bot_is_in_it(operated: Operated):
    real_bot(operated)
    with unharmed(operated):
        operated.session(bot="real", session=TTL)
        room = operated.until_phase("Running")["room"]["name"]
        delete_by_hand(operated, room)
        told(operated).check("Ejected", "the room was closed")


# Its clock


@pytest.mark.parametrize("ahead_s", [30, -30])
def test_clocks_that_differ_a_little(faulty: Operated, ahead_s: float):
    """Rooms and tokens work, and the margins hold."""
    set_domain(faulty.daily, ahead_s=ahead_s)
    with unharmed(faulty):
        uid = faulty.session(session=TTL)
        faulty.until_phase("Running")
        assert admits(faulty, uid)
        stop(faulty, "s")
        told(faulty).check("Stopped")


def test_daily_is_so_far_ahead_that_every_room_has_expired(faulty: Operated):
    set_domain(faulty.daily, ahead_s=7200)
    faulty.session(session=TTL)
    words = ("exp must be in the future", " s ahead of the operator's", "Set the clock of the operator's node")
    told(faulty).check("RoomFailed", *words)
    (line,) = [line for line in get(f"{faulty.metrics_url}/metrics")[1].splitlines() if line.startswith(AHEAD)]
    assert float(line.split()[1]) > 7000
    set_domain(faulty.daily, ahead_s=0)
    with unharmed(faulty):
        pass


AHEAD = "pipecat_daily_clock_ahead_seconds"


@pytest.mark.parametrize("ahead_s", [3000, -7200], ids=["ahead", "behind"])
def test_a_sweep_under_skew_deletes_no_live_room(faulty: Operated, ahead_s: float):
    """To an operator whose clock is ahead, a room that was just made is older than an orphan must be."""
    set_domain(faulty.daily, ahead_s=ahead_s)
    assert faulty.operator.stop() == 0
    faulty.start(PIPECAT_OPERATOR_SWEEP_SECONDS="0.2")
    with unharmed(faulty):
        faulty.session(session=TTL)
        faulty.until_phase("Running")
        swept = calls(faulty, "GET /v1/rooms 200")
        wait_until("three sweeps", lambda: calls(faulty, "GET /v1/rooms 200") >= swept + 3, 20)
        assert len(faulty.rooms()) == 2
        stop(faulty, "s")
        assert faulty.until_ended()["endReason"] == "Stopped"


def calls(operated: Operated, which: str) -> int:
    """How often the stand-in was called so."""
    count: int = operated.daily_state()["calls"].get(which, 0)
    return count
