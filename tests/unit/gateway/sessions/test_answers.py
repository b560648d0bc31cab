"""What sessions mean to who waits for them, and how they are told."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_gateway.keys.ring import ANONYMOUS
from pipecat_gateway.sessions import answers, views
from pipecat_gateway.wire.models import SessionsQuery
from pipecat_operator.conditions import EndReason, Phase
from support.objects import NOW, UID

CREATED = NOW.isoformat()
ACME = replace(ANONYMOUS, id="k", tenant="acme")


def session(status=None, tenant=None, **spec):
    """As the API server shows it."""
    labels = {"pipecat.dev/tenant": tenant} if tenant else {}
    meta = {"name": "gw-1", "namespace": "calls", "uid": UID, "creationTimestamp": CREATED, "labels": labels}
    item = {"metadata": meta, "spec": {"botRef": {"name": "a"}, "body": {"x": 1}, **spec}, "status": status or {}}
    return views.view(item)


def ended(reason, joined=True):
    """A session that did."""
    times = {"startedAt": CREATED, "endedAt": (NOW + timedelta(seconds=60)).isoformat()}
    if joined:
        times["joinedAt"] = (NOW + timedelta(seconds=2.4)).isoformat()
    phase = EndReason(reason).phase if reason in set(EndReason) else Phase.FAILED
    return session({"phase": phase, "endReason": reason, **times})


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({}, None),
        ({"phase": "Starting"}, None),
        ({"phase": "Running"}, None),
        ({"phase": "Failed", "endReason": "ImagePullFailed", "message": "no image"}, (502, "ImagePullFailed")),
        ({"phase": "Failed", "endReason": "StartTimeout"}, (504, "StartTimeout")),
        ({"phase": "Ending", "endReason": "Stopped"}, (502, "Stopped")),
        ({"phase": "Failed", "endReason": "CapacityReached", "message": "3 of 3"}, (429, "at_capacity")),
        (
            {"phase": "Failed", "endReason": "RoomFailed", "message": "Daily refused create_room (400): x"},
            (400, "refused"),
        ),
        (
            {"phase": "Failed", "endReason": "RoomFailed", "message": "Daily refused create_room (401): x"},
            (502, "RoomFailed"),
        ),
        ({"phase": "Failed", "endReason": "Novel"}, (502, "Novel")),
        ({"phase": "Failed", "endReason": 7}, (502, "Unknown")),
    ],
)
def test_a_session_that_will_not_come(status, told):
    problem = views.ended_early(session(status))
    assert (problem and (problem.status, problem.code)) == told
    if told:
        assert status.get("message", "") in problem.error


def test_capacity_is_told_as_pipecat_cloud_does():
    problem = views.ended_early(session({"phase": "Failed", "endReason": "CapacityReached", "message": "3 of 3"}))
    response = problem.response(documented=True)
    text = "PCC-AGENT-AT-CAPACITY: 3 of 3"
    assert json.loads(response.body) == {"status": 429, "code": "429", "error": text, "message": text}
    assert response.headers["Retry-After"].isdigit()


def test_only_those_of_the_tenant_are_seen():
    assert views.visible(session(tenant="acme"), ACME)
    assert not views.visible(session(tenant="other"), ACME)
    assert not views.visible(session(), ACME)
    assert views.visible(session(), replace(ACME, tenant="default")), "what kubectl made is the default tenant's"
    assert not views.visible(session(tenant="other"), replace(ANONYMOUS)), "a key of that id is a key like any other"
    assert not views.visible(session(tenant="acme"), replace(ACME, bots=frozenset({"b"})))
    assert views.visible(session(), ANONYMOUS)


@pytest.mark.parametrize(
    ("one", "state"),
    [
        (session(), "active"),
        (session({"phase": "Running", "joinedAt": CREATED}), "active"),
        (session({"phase": "Ending", "endReason": "Stopped"}), "active"),
        (ended("UserLeft"), "completed"),
        (ended("NoShow"), "completed"),
        (ended("Stopped"), "terminated"),
        (ended("Stopped", joined=False), "terminated"),
        (ended("BotDeleted"), "terminated"),
        (ended("StartTimeout", joined=False), "agent_start_timeout"),
        (ended("ImagePullFailed", joined=False), "ended_before_agent_start"),
        (ended("OutOfMemory"), "agent_error"),
        (ended("Novel"), "unknown"),
    ],
)
def test_how_it_ended_in_the_words_of_the_cli(one, state):
    assert answers.end_state(one) == state


@pytest.mark.parametrize("reason", EndReason)
@pytest.mark.parametrize("joined", [True, False])
def test_every_end_has_a_shape(reason, joined):
    told = answers.details(ended(reason, joined), "b-1", "acme").model_dump(by_alias=True)
    assert told["endReason"] == reason
    assert told["completionStatus"] == ("HTTP_COMPLETED" if reason.phase is Phase.SUCCEEDED else "HTTP_ERROR")
    assert told["botStartSeconds"] == (2 if joined else None)
    assert told["createdAt"].endswith("000Z")
    assert told["updatedAt"] == told["endedAt"]


SESSIONS = st.lists(
    st.builds(
        lambda age, number, one: replace(one, created_at=NOW - timedelta(seconds=age), uid=f"u-{number:03}"),
        st.integers(0, 3),
        st.integers(0, 999),
        st.sampled_from([session(), ended("UserLeft"), ended("Stopped"), ended("StartTimeout", joined=False)]),
    ),
    unique_by=lambda each: each.uid,
    max_size=12,
)


@given(sessions=SESSIONS, limit=st.integers(1, 5), status=st.sampled_from(["active", "ended", "all"]))
def test_pages_have_every_session_once_the_latest_first(sessions, limit, status):
    found = []
    while True:
        asked = SessionsQuery(limit=limit, offset=len(found), status=status)
        page = answers.page(sessions, asked, "b-1", "acme")
        found += page.sessions
        if len(page.sessions) < limit:
            break
    wanted = [each for each in sessions if status == "all" or each.finished == (status == "ended")]
    assert page.total_count == len(wanted)
    assert sorted(each.session_id for each in found) == sorted(each.uid for each in wanted)
    assert [each.created_at for each in found] == sorted((each.created_at for each in found), reverse=True)


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 4),
        ({"endState": "terminated"}, 1),
        ({"endState": "agent_start_timeout"}, 1),
        ({"endState": "to_come"}, 0),
        ({"startType": "cold"}, 4),
        ({"startType": "warm"}, 0),
        ({"deploymentId": "b-1"}, 4),
        ({"deploymentId": "b-2"}, 0),
        ({"startTime": str(int(NOW.timestamp()))}, 4),
        ({"startTime": str(int(NOW.timestamp()) + 1)}, 0),
        ({"endTime": str(int(NOW.timestamp()))}, 4),
        ({"endTime": str(int(NOW.timestamp()) - 1)}, 0),
        ({"endTime": str(10**30)}, 4),
        ({"startTimeMin": "2"}, 2),
        ({"startTimeMin": "3"}, 0),
        ({"startTimeMax": "2"}, 2),
        ({"startTimeMax": "1"}, 0),
    ],
)
def test_filters(filters, count):
    sessions = [session(), ended("UserLeft"), ended("Stopped"), ended("StartTimeout", joined=False)]
    asked = SessionsQuery.model_validate(filters)
    assert answers.page(sessions, asked, "b-1", "acme").total_count == count
