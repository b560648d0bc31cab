"""What somebody else writes into the cluster, with our labels or on our objects, is borne and told apart."""

import json
from datetime import timedelta
from typing import Any

import pytest

from pipecat_operator import names
from pipecat_operator.api import Limits
from pipecat_operator.cache import Cache
from support.objects import NOW, UID

OTHER = "11111111-7a8e-4f0e-9d39-4b6f5a1f0c11"
CREATED = NOW.isoformat()


@pytest.fixture
def cache() -> Cache:
    """That knows one session."""
    filled = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    filled.apply_session("ADDED", session())
    return filled


def session(status: dict[str, Any] | None = None, version: str = "7") -> dict[str, Any]:
    metadata = {"name": "s", "namespace": "ns", "uid": UID, "resourceVersion": version, "creationTimestamp": CREATED}
    return {"metadata": metadata, "spec": {"botRef": {"name": "bot"}}, "status": status or {}}


def owner(kind: str, name: str, uid: str) -> list[dict[str, Any]]:
    return [{"apiVersion": "x", "kind": kind, "name": name, "uid": uid, "controller": True}]


def job(**metadata: Any) -> dict[str, Any]:
    ours = {
        "name": names.job_name(UID),
        "namespace": "ns",
        "uid": "job",
        "creationTimestamp": CREATED,
        "labels": {names.LABEL_SESSION: UID, names.LABEL_MANAGED_BY: names.MANAGED_BY},
        "ownerReferences": owner("BotSession", "s", UID),
    }
    return {"metadata": {**ours, **metadata}, "status": {}}


def pod(**metadata: Any) -> dict[str, Any]:
    ours = {
        "name": f"{names.job_name(UID)}-x",
        "namespace": "ns",
        "uid": "pod",
        "creationTimestamp": CREATED,
        "labels": {names.LABEL_SESSION: UID, names.LABEL_MANAGED_BY: names.MANAGED_BY},
        "ownerReferences": owner("Job", names.job_name(UID), "job"),
    }
    return {"metadata": {**ours, **metadata}, "status": {"phase": "Running"}}


def test_what_is_ours_is_seen(cache: Cache):
    cache.apply_job("ADDED", job())
    cache.apply_pod("ADDED", pod())
    seen = cache.observed(UID)
    assert seen
    assert seen.job
    assert seen.pod


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "mine"},
        {"ownerReferences": []},
        {"ownerReferences": owner("BotSession", "s", OTHER)},
        {"ownerReferences": [{**owner("BotSession", "s", UID)[0], "controller": False}]},
        {"namespace": "elsewhere"},
    ],
    ids=["name", "no-owner", "another-owner", "no-controller", "another-namespace"],
)
@pytest.mark.parametrize("kind", ["ADDED", "DELETED"])
def test_a_job_of_somebody_else(cache: Cache, metadata: dict[str, Any], kind: str):
    cache.apply_job(kind, job(**metadata))
    seen = cache.observed(UID)
    assert seen
    assert seen.job is None


@pytest.mark.parametrize(
    "metadata",
    [{"ownerReferences": []}, {"ownerReferences": owner("Job", "mine", "job")}, {"namespace": "elsewhere"}],
    ids=["no-owner", "another-owner", "another-namespace"],
)
@pytest.mark.parametrize("kind", ["ADDED", "DELETED"])
def test_a_pod_of_somebody_else(cache: Cache, metadata: dict[str, Any], kind: str):
    cache.apply_pod(kind, pod(**metadata))
    seen = cache.observed(UID)
    assert seen
    assert seen.pod is None


def test_it_comes_before_its_session_and_still_is_somebody_elses():
    cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    for made in (job(), job(namespace="elsewhere")):
        cache.apply_job("MODIFIED", made)
    for made in (pod(), pod(namespace="elsewhere", uid="other")):
        cache.apply_pod("MODIFIED", made)
    cache.apply_session(None, session())
    seen = cache.observed(UID)
    assert seen
    assert seen.job
    assert seen.pod
    assert seen.pod.uid == "pod"


def test_what_a_list_does_not_name_has_gone(cache: Cache):
    cache.apply_job("ADDED", job())
    cache.retain_jobs("elsewhere", set())
    assert cache.observed(UID).job.gone is False
    cache.retain_jobs("ns", set())
    assert cache.observed(UID).job.gone
    cache.retain_sessions("elsewhere", set(), 7)
    assert cache.observed(UID)
    cache.retain_sessions(None, {OTHER}, 7)
    assert cache.observed(UID) is None


def test_what_was_made_while_a_list_was_read_stays(cache: Cache):
    cache.retain_sessions(None, set(), 6)
    assert cache.observed(UID)
    cache.apply_session("MODIFIED", session({"phase": "Failed", "endedAt": CREATED}, version="8"))
    cache.retain_sessions(None, set(), 7)
    assert cache.finished(UID)


def test_a_body_is_kept_until_there_is_a_job(cache: Cache):
    with_body = session(version="8")
    with_body["spec"]["body"] = {"customer": "4711"}
    cache.apply_session("MODIFIED", with_body)
    assert cache.observed(UID).session.spec.body
    started = session({"phase": "Starting", "jobName": names.job_name(UID)}, version="9")
    cache.apply_session("MODIFIED", {**started, "spec": with_body["spec"]})
    assert cache.observed(UID).session.spec.body is None
    assert cache.observed(UID).session.spec.bot_ref.name == "bot"


def test_nobody_looks_again_for_what_is_known_already():
    told = []
    cache = Cache(changed=told.append, over=lambda _: None, clock=lambda: NOW)
    for _ in range(2):
        cache.apply_session("MODIFIED", session())
        cache.apply_job("MODIFIED", job())
        cache.apply_pod("MODIFIED", pod())
    assert told == [UID] * 3


def test_a_job_without_a_session_is_forgotten_when_it_has_gone():
    cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    cache.apply_job("MODIFIED", job())
    cache.retain_jobs(None, set())
    cache.apply_session("ADDED", session())
    assert cache.observed(UID).job is None


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no JSON",
        "[]",
        "null",
        "{}",
        "[" * 250_000,
        json.dumps({"startTimeoutSeconds": 10**30}),
        json.dumps({"startTimeoutSeconds": -1}),
        json.dumps({"ttlSecondsAfterFinished": "soon"}),
    ],
    ids=["empty", "text", "list", "null", "none", "deep", "huge", "negative", "word"],
)
def test_limits_that_nobody_can_read_are_resolved_anew(cache: Cache, said: str):
    cache.apply_job("ADDED", job(annotations={names.ANNOTATION_LIMITS: said}))
    seen = cache.observed(UID)
    assert seen
    assert seen.job
    assert seen.limits == Limits()


@pytest.mark.parametrize(
    "status",
    [
        {"endReason": "Bored"},
        {"endReason": "Bored", "phase": "Running"},
        {"startedAt": "0000-01-01T00:00:00Z"},
        {"joinedAt": "2026-01-01T00:00:00+99:99"},
        {"room": {"name": "x"}},
        {"conditions": [{"type": "x", "status": "True", "reason": "", "message": "", "lastTransitionTime": "x"}]},
    ],
)
def test_a_status_that_makes_no_sense_hides_no_session(status: dict[str, Any]):
    cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    cache.apply_session("ADDED", session(status))
    assert cache.observed(UID)


@pytest.mark.parametrize(
    "status", [{"phase": "Failed", "endReason": "Bored"}, {"phase": "Failed", "endedAt": "0000-01-01T00:00:00Z"}]
)
def test_an_end_that_makes_no_sense_still_is_one(cache: Cache, status: dict[str, Any]):
    cache.apply_session("MODIFIED", session(status, version="8"))
    assert cache.observed(UID) is None
    assert cache.finished(UID)


@pytest.mark.parametrize("ended_at", ["9999-12-31T23:59:59Z", "2099-01-01T00:00:00Z"])
def test_nobody_ended_in_the_future(cache: Cache, ended_at: str):
    cache.apply_session("MODIFIED", session({"phase": "Failed", "endedAt": ended_at}, version="8"))
    finished = cache.finished(UID)
    assert finished
    assert finished.expires_at == NOW + timedelta(seconds=600)


def test_a_bot_whose_status_makes_no_sense_still_is_one(cache: Cache):
    condition = {"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": "+99:99"}
    metadata = {"name": "bot", "namespace": "ns", "uid": "b", "creationTimestamp": CREATED}
    cache.apply_bot("ADDED", {"metadata": metadata, "spec": {"image": "x"}, "status": {"conditions": [condition]}})
    seen = cache.observed(UID)
    assert seen
    assert seen.bot


def bot_body(uid: str, version: str, image: str) -> dict[str, Any]:
    metadata = {"name": "bot", "namespace": "ns", "uid": uid, "resourceVersion": version, "creationTimestamp": CREATED}
    return {"metadata": metadata, "spec": {"image": image}}


@pytest.mark.parametrize("late", [("DELETED", "old", "8"), ("MODIFIED", "old", "7")])
def test_a_bot_made_anew_under_its_name_stays(cache: Cache, late: tuple[str, str, str]):
    """kopf tells in order of each object, not of each name."""
    kind, uid, version = late
    cache.apply_bot("ADDED", bot_body("old", "5", "old"))
    cache.apply_bot("ADDED", bot_body("new", "9", "new"))
    cache.apply_bot(kind, bot_body(uid, version, "old"))
    seen = cache.observed(UID)
    assert seen
    assert seen.bot
    assert seen.bot.spec.image == "new"


def test_a_bot_changed_to_one_that_cannot_be_read_is_none(cache: Cache):
    """Older than the schema that refuses it: the one that it was is not what anybody wants to run."""
    cache.apply_bot("ADDED", bot_body("b", "5", "x"))
    changed = bot_body("b", "6", "x")
    changed["spec"]["image"] = {"not": "a name"}
    cache.apply_bot("MODIFIED", changed)
    seen = cache.observed(UID)
    assert seen
    assert seen.bot is None


def test_a_bot_that_was_deleted_is_gone(cache: Cache):
    cache.apply_bot("ADDED", bot_body("b", "5", "x"))
    cache.apply_bot("DELETED", bot_body("b", "6", "x"))
    seen = cache.observed(UID)
    assert seen
    assert seen.bot is None


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
def test_a_live_session_is_over_once_whoever_tells_of_its_end(kind):
    """The answer to the write of its end may be lost: then the watch tells first, and its room goes all the same."""
    over = []
    cache = Cache(changed=lambda _: None, over=over.append, clock=lambda: NOW)
    cache.apply_session("ADDED", session(version="7"))
    ended = session({"phase": "Succeeded", "endReason": "UserLeft"}, version="8")
    cache.apply_session(kind, ended)
    cache.apply_session("MODIFIED", ended)
    cache.apply_session("DELETED", ended)
    assert [one.metadata.uid for one in over] == [UID]
