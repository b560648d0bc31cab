"""From a start request to a BotSession."""

import json
from dataclasses import replace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipecat_gateway.keys.ring import ANONYMOUS
from pipecat_gateway.sessions import start
from pipecat_gateway.wire.errors import Problem
from pipecat_gateway.wire.models import (
    BODY_MAX,
    ROOM_IS_NONE,
    ROOM_IS_OURS,
    TOKEN_IS_OURS,
    RunnerStartRequest,
    StartRequest,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
TAKEN = {*ROOM_IS_OURS, *ROOM_IS_NONE, *TOKEN_IS_OURS, "user_name", "user_id", "is_owner", "permissions", "privacy"}
PROPERTIES = st.dictionaries(st.text().filter(lambda word: word not in TAKEN), JSON, max_size=5)
BODIES = st.dictionaries(st.text().filter(lambda word: word != "token"), JSON, max_size=5)
FIELDS = st.sampled_from([*StartRequest.model_json_schema()["properties"], "other"])
URL, TOKEN = "https://mine.daily.co/room", "eyJ.mine"
LEAST = replace(ANONYMOUS, id="least", tenant="acme", may_own=False, may_record=False, max_sessions=3)


def made(request, key=ANONYMOUS, model=StartRequest):
    """The BotSession."""
    return start.manifest(start.start_of("a", request, key, model), key, "calls", "gw-1", "gw-1-room")


def refused(request, key=ANONYMOUS, model=StartRequest):
    """Status, code and text."""
    with pytest.raises(Problem) as caught:
        start.start_of("a", request, key, model)
    return caught.value.status, caught.value.code, caught.value.error


@given(body=BODIES, room=PROPERTIES)
def test_body_and_room_arrive_as_they_were_sent(body, room):
    session = made({"createDailyRoom": True, "body": body, "dailyRoomProperties": room})
    assert session["spec"]["body"] == body
    assert session["spec"].get("room", {}) == room
    assert session["metadata"]["name"] == "gw-1"
    assert session["metadata"]["namespace"] == "calls"
    assert session["spec"]["botRef"] == {"name": "a"}


@given(user=PROPERTIES, name=st.text(max_size=128), id=st.text(max_size=36), owner=st.booleans())
def test_properties_of_the_users_token_are_the_users(user, name, id, owner):
    asked = {**user, "user_name": name, "user_id": id, "is_owner": owner}
    session = made({"createDailyRoom": True, "dailyMeetingTokenProperties": asked})
    assert session["spec"]["user"] == {"name": name, "id": id, "tokenProperties": {**user, "is_owner": owner}}
    assert "room" not in session["spec"]


@given(body=BODIES)
@example(body={"": "\ud800", "large": 2**70})
def test_a_manifest_is_packed_as_it_is(body):
    session = made({"createDailyRoom": True, "body": body})
    assert json.loads(orjson.dumps(start.packed(session))) == session


def test_a_token_with_a_name_only_needs_nothing_of_daily():
    session = made({"createDailyRoom": True, "dailyMeetingTokenProperties": {"user_name": "Ada"}})
    assert session["spec"]["user"] == {"name": "Ada"}


def test_a_session_is_its_keys():
    labels = made({"createDailyRoom": True}, LEAST)["metadata"]["labels"]
    assert labels == {"pipecat.dev/tenant": "acme", "pipecat.dev/api-key": "least"}
    assert made({"createDailyRoom": True}, LEAST)["spec"]["quota"] == {"group": "least", "maxSessions": 3}
    assert "quota" not in made({"createDailyRoom": True})["spec"]


@pytest.mark.parametrize("flag", [{}, {"createDailyRoom": False}])
@pytest.mark.parametrize("more", [{}, {"lang": "en"}])
def test_a_room_of_ones_own_goes_by_a_secret(flag, more):
    request = {**flag, "body": {"room_url": URL, "token": TOKEN, **more}}
    session = made(request)
    assert session["spec"]["room"] == {"url": URL, "tokenSecretRef": {"name": "gw-1-room", "key": "token"}}
    assert session["spec"]["body"] == {"room_url": URL, **more}
    assert TOKEN not in json.dumps(session)
    asked = start.start_of("a", request)
    assert asked.own_token == TOKEN
    assert TOKEN not in repr(asked)


def test_the_secret_goes_with_its_session():
    secret = start.token_manifest(TOKEN, "calls", "gw-1-room", "gw-1", "u-1")
    assert secret["stringData"] == {"token": TOKEN}
    assert [(owner["kind"], owner["uid"]) for owner in secret["metadata"]["ownerReferences"]] == [("BotSession", "u-1")]


def test_the_runners_start_takes_a_room_of_ones_own_too():
    session = made({"body": {"room_url": URL, "token": TOKEN}}, model=RunnerStartRequest)
    assert session["spec"]["room"] == {"url": URL, "tokenSecretRef": {"name": "gw-1-room", "key": "token"}}
    assert TOKEN not in json.dumps(session)


@pytest.mark.parametrize("flag", [{}, {"createDailyRoom": False}])
def test_the_guides_start_takes_a_room_of_ones_own_too(flag):
    asked = start.start_bot_of("a", {"room_url": URL, "token": TOKEN, "lang": "en", **flag})
    assert (asked.own_url, asked.own_token) == (URL, TOKEN)
    assert asked.body == {"room_url": URL, "lang": "en", **flag}


def test_an_address_without_a_token_is_a_word_of_the_bots():
    body = {"room_url": URL, "token": None}
    for model in (StartRequest, RunnerStartRequest):
        assert made({"createDailyRoom": True, "body": body}, model=model)["spec"]["body"] == body
    assert start.start_bot_of("a", body).body == body


@pytest.mark.parametrize("model", [StartRequest, RunnerStartRequest])
@pytest.mark.parametrize("url", [{}, {"room_url": URL}])
def test_a_token_for_a_room_that_is_made_is_refused(model, url):
    status, code, text = refused({"createDailyRoom": True, "body": {"token": TOKEN, **url}}, model=model)
    assert (status, code) == (400, "token_without_room")
    assert "body.room_url" in text
    assert "createDailyRoom" in text
    assert TOKEN not in text


def test_a_token_alone_is_refused_where_a_room_is_made_by_default():
    assert refused({"body": {"token": TOKEN}}, model=RunnerStartRequest)[:2] == (400, "token_without_room")


@pytest.mark.parametrize(
    ("request_", "advice"),
    [
        ({"token": TOKEN}, "send room_url with it"),
        ({"token": TOKEN, "room_url": URL, "createDailyRoom": True}, "no createDailyRoom"),
        ({"token": TOKEN, "room_url": URL, "createDailyRoom": "yes"}, "no createDailyRoom"),
        ({"body": {"room_url": URL, "token": TOKEN}}, "outside of body"),
        ({"createDailyRoom": False, "body": {"token": TOKEN}}, "outside of body"),
    ],
)
def test_the_guides_start_refuses_a_token_that_would_stay_readable(request_, advice):
    with pytest.raises(Problem, match=advice) as caught:
        start.start_bot_of("a", request_)
    assert (caught.value.status, caught.value.code) == (400, "token_without_room")
    assert TOKEN not in caught.value.error


@given(request=st.dictionaries(FIELDS, JSON, max_size=6), model=st.sampled_from([StartRequest, RunnerStartRequest]))
def test_any_object_is_a_start_or_a_clear_refusal(request, model):
    try:
        start.start_of("a", request, LEAST, model)
        told = None
    except Problem as problem:
        told = problem
    assert told is None or (told.status in (400, 403, 413) and json.loads(told.response().body)["error"])


@given(request=st.dictionaries(st.text().filter(lambda word: word[:1] not in "cdetb"), JSON, max_size=4))
def test_fields_that_pipecat_cloud_does_not_know_are_ignored_as_there(request):
    assert made({**request, "createDailyRoom": True}) == made({"createDailyRoom": True})


def test_the_guides_start_takes_the_whole_request_as_body():
    assert start.start_bot_of("a", {"lang": "en"}).body == {"lang": "en"}
    assert start.start_bot_of("a", {}).body is None


def test_the_runners_start_makes_a_room_unless_told_otherwise():
    assert "room" not in made({}, model=RunnerStartRequest)["spec"]
    assert refused({"createDailyRoom": False}, model=RunnerStartRequest)[:2] == (400, "room_required")


@pytest.mark.parametrize("request_", [{}, {"createDailyRoom": False}, {"body": {"lang": "en"}}])
def test_without_a_room_the_caller_is_told_what_to_send(request_):
    status, code, text = refused(request_)
    assert (status, code) == (400, "room_required")
    assert [word for word in ("createDailyRoom true", "body.room_url", "body.token") if word not in text] == []


@pytest.mark.parametrize("word", ROOM_IS_OURS)
def test_what_is_the_operators_of_a_room_is_named(word):
    status, code, text = refused({"createDailyRoom": True, "dailyRoomProperties": {word: 1}})
    assert (status, code) == (400, "refused")
    assert f"dailyRoomProperties.{word}" in text


@pytest.mark.parametrize("word", TOKEN_IS_OURS)
def test_what_is_the_operators_of_a_token_is_named(word):
    status, code, text = refused({"createDailyRoom": True, "dailyMeetingTokenProperties": {word: 1}})
    assert (status, code) == (400, "refused")
    assert f"dailyMeetingTokenProperties.{word}" in text


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"dailyMeetingTokenProperties": {"is_owner": True}}, "is_owner"),
        ({"dailyMeetingTokenProperties": {"permissions": {"canAdmin": True}}}, "permissions.canAdmin"),
        ({"dailyMeetingTokenProperties": {"permissions": {"canAdmin": ["participants"]}}}, "permissions.canAdmin"),
        ({"dailyMeetingTokenProperties": {"permissions": "all"}}, "permissions.canAdmin"),
        ({"dailyMeetingTokenProperties": {"start_cloud_recording": True}}, "start_cloud_recording"),
        ({"dailyMeetingTokenProperties": {"enable_recording": "cloud"}}, "enable_recording"),
        ({"dailyRoomProperties": {"enable_recording": "cloud"}}, "enable_recording"),
        ({"dailyRoomProperties": {"permissions": {"canAdmin": True}}}, "dailyRoomProperties.permissions.canAdmin"),
        ({"dailyRoomProperties": {"transcription_bucket": {"bucket_name": "mine"}}}, "transcription_bucket"),
        ({"dailyRoomProperties": {"streaming_endpoints": [{"name": "mine"}]}}, "streaming_endpoints"),
        ({"dailyRoomProperties": {"meeting_join_hook": "https://mine"}}, "meeting_join_hook"),
    ],
)
def test_owning_and_recording_need_the_keys_leave(request_, field):
    request_ = {"createDailyRoom": True, **request_}
    status, code, text = refused(request_, LEAST)
    assert (status, code) == (403, "forbidden")
    assert field in text
    assert made(request_)


@pytest.mark.parametrize("word", ["is_owner", "enable_recording", "start_cloud_recording"])
def test_saying_no_needs_no_leave(word):
    assert made({"createDailyRoom": True, "dailyMeetingTokenProperties": {word: False}}, LEAST)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"transport": "webrtc"}, "unsupported_transport"),
        ({"transport": "websocket", "createDailyRoom": True}, "unsupported_transport"),
        ({"transport": []}, "unsupported_transport"),
        ({"createDailyRoom": True, "enableDefaultIceServers": True}, "unsupported_transport"),
        ({"createDailyRoom": "true"}, "bad_request"),
        ({"createDailyRoom": None}, "bad_request"),
        ({"createDailyRoom": True, "body": []}, "bad_request"),
        ({"createDailyRoom": True, "dailyRoomProperties": "x"}, "bad_request"),
        ({"createDailyRoom": True, "dailyRoomProperties": {"privacy": "org"}}, "bad_request"),
        ({"createDailyRoom": True, "dailyRoomProperties": {"privacy": None}}, "bad_request"),
        ({"createDailyRoom": True, "dailyRoomProperties": {"url": "https://elsewhere"}}, "bad_request"),
        ({"createDailyRoom": True, "dailyRoomProperties": {"tokenSecretRef": {"name": "bot-keys"}}}, "bad_request"),
        ({"createDailyRoom": True, "dailyMeetingTokenProperties": {"user_name": "x" * 129}}, "bad_request"),
        ({"createDailyRoom": True, "dailyMeetingTokenProperties": {"user_id": 7}}, "bad_request"),
        ({"createDailyRoom": True, "dailyMeetingTokenProperties": {"user_id": None}}, "bad_request"),
        ({"createDailyRoom": True, "dailyMeetingTokenProperties": {"is_owner": "yes"}}, "bad_request"),
        ({"body": {"room_url": URL}}, "bad_request"),
        ({"body": {"token": TOKEN}}, "bad_request"),
        ({"body": {"room_url": "file:///etc", "token": TOKEN}}, "bad_request"),
        ({"body": {"room_url": URL + "\n", "token": TOKEN}}, "bad_request"),
        ({"body": {"room_url": URL, "token": ""}}, "bad_request"),
        ({"body": {"room_url": URL, "token": TOKEN}, "dailyRoomProperties": {"enable_chat": True}}, "bad_request"),
        ({"body": {"room_url": URL, "token": TOKEN}, "dailyMeetingTokenProperties": {"user_id": "1"}}, "bad_request"),
    ],
)
def test_what_is_not_offered_is_refused(request_, code):
    status, said, text = refused(request_)
    assert (status, said) == (400, code)
    assert TOKEN not in text


@pytest.mark.parametrize("bot", ["../secrets/x", "bot?watch=true", "Bot", "", "-a", "x" * 64, "a\n"])
def test_what_can_be_no_bots_name_gets_nowhere(bot):
    with pytest.raises(Problem) as caught:
        start.start_of(bot, {"createDailyRoom": True})
    assert (caught.value.status, caught.value.code) == (404, "unknown_bot")


def test_the_body_has_a_bound():
    fits = {"x": "y" * (BODY_MAX - len('{"x":""}'))}
    assert start.start_of("a", {"createDailyRoom": True, "body": fits}).body == fits
    assert refused({"createDailyRoom": True, "body": {"x": fits["x"] + "y"}})[0] == 413
