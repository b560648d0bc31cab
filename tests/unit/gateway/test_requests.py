"""From a request to a BotSession, and from a session to an answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_gateway import requests
from pipecat_gateway.errors import Problem, from_api
from pipecat_gateway.settings import load
from pipecat_operator.kube import error_of
from pipecat_operator.settings import SettingsError
from support.objects import session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("text", [b"", b"  \n", b"{}"])
def test_nothing_is_an_empty_request(text):
    assert requests.parse(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[1]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b'{"x": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_is_a_400(text):
    with pytest.raises(Problem) as caught:
        requests.parse(text)
    assert (caught.value.status, caught.value.code) == (400, "bad_json")


def nested(levels: int) -> bytes:
    """An object in an array in an object ..."""
    text = "1"
    for level in range(levels, 0, -1):
        text = f'{{"a": {text}}}' if level % 2 else f"[{text}]"
    return text.encode()


def test_nesting_has_a_bound():
    assert requests.parse(nested(requests.DEPTH_MAX))
    with pytest.raises(Problem, match="more than 100 levels"):
        requests.parse(nested(requests.DEPTH_MAX + 1))


def own_room(room: dict[str, object]) -> bool:
    return any(word in room for word in requests.OWN_ROOM)


ROOMS = st.dictionaries(st.text(), JSON, max_size=5).filter(lambda room: not own_room(room))


@given(body=st.dictionaries(st.text(), JSON, max_size=5), room=ROOMS)
def test_body_and_room_arrive_as_they_were_sent(body, room):
    start = requests.start_of("a", {"createDailyRoom": True, "body": body, "dailyRoomProperties": room})
    made = requests.manifest(start, "calls", "gw-1")
    assert made["spec"]["body"] == body
    assert made["spec"].get("room", {}) == room
    assert made["metadata"] == {"namespace": "calls", "name": "gw-1"}
    assert made["spec"]["botRef"] == {"name": "a"}


@given(request=st.dictionaries(st.text(), JSON, max_size=6))
def test_any_object_is_a_start_or_a_clear_refusal(request):
    try:
        requests.start_of("a", request)
        told = None
    except Problem as problem:
        told = problem
    assert told is None or (told.status in (400, 413) and json.loads(told.response().body)["error"])


def test_the_guides_start_takes_the_whole_request_as_body():
    assert requests.start_bot_of("a", {"lang": "en"}).body == {"lang": "en"}
    assert requests.start_bot_of("a", {}).body is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"transport": "webrtc"}, "unsupported_transport"),
        ({"createDailyRoom": False}, "room_required"),
        ({"body": []}, "bad_request"),
        ({"dailyRoomProperties": "x"}, "bad_request"),
        ({"dailyRoomProperties": {"url": "https://elsewhere"}}, "bad_request"),
        ({"dailyRoomProperties": {"tokenSecretRef": {"name": "bot-keys"}}}, "bad_request"),
    ],
)
def test_what_is_not_offered_is_refused(request_, code):
    with pytest.raises(Problem) as caught:
        requests.start_of("a", request_)
    assert (caught.value.status, caught.value.code) == (400, code)


@pytest.mark.parametrize("bot", ["../secrets/x", "bot?watch=true", "Bot", "", "-a", "x" * 64, "a\n"])
def test_what_can_be_no_bots_name_gets_nowhere(bot):
    with pytest.raises(Problem) as caught:
        requests.start_of(bot, {})
    assert (caught.value.status, caught.value.code) == (404, "unknown_bot")


def test_the_body_has_a_bound():
    fits = {"x": "y" * (requests.BODY_MAX - len('{"x":""}'))}
    assert requests.start_of("a", {"body": fits}).body == fits
    with pytest.raises(Problem) as caught:
        requests.start_of("a", {"body": {"x": fits["x"] + "y"}})
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({}, None),
        ({"phase": "Starting"}, None),
        ({"phase": "Running"}, None),
        ({"phase": "Failed", "endReason": "ImagePullFailed", "message": "no image"}, 502),
        ({"phase": "Failed", "endReason": "StartTimeout"}, 504),
        ({"phase": "Ending", "endReason": "Stopped"}, 502),
    ],
)
def test_a_session_that_will_not_come(status, code):
    problem = requests.ended_early(session(status))
    assert (problem and problem.status) == code
    if code:
        assert status["endReason"] in problem.error
        assert status.get("message", "") in problem.error


@pytest.mark.parametrize(
    ("code", "answered"), [(404, 404), (403, 403), (422, 400), (409, 409), (429, 503), (500, 503), (401, 503), (0, 503)]
)
def test_the_api_servers_refusals(code, answered):
    assert from_api(error_of("POST", code, {"message": "said"}), "It").status == answered


def test_rights_that_the_gateway_lacks_are_not_the_callers_business():
    said = 'bots.pipecat.dev "x" is forbidden: User "system:serviceaccount:a:b" cannot get resource "bots"'
    problem = from_api(error_of("GET", 403, {"message": said}), "It")
    assert (problem.status, problem.code) == (500, "misconfigured")
    assert "serviceaccount" not in problem.error


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_leave(monkeypatch, host):
    monkeypatch.setenv("PIPECAT_GATEWAY_HOST", host)
    assert load(insecure=False).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.test", ""])
def test_elsewhere_needs_leave(monkeypatch, host):
    monkeypatch.setenv("PIPECAT_GATEWAY_HOST", host)
    assert load(insecure=True).host == host
    with pytest.raises(SettingsError, match="--insecure"):
        load(insecure=False)
