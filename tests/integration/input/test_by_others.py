"""What somebody else writes on our objects, or with our labels: borne, and told apart from what is ours."""

import json
import urllib.request
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipecat_local.processes import wait_until
from pipecat_operator.names import ANNOTATION_LIMITS, LABEL_MANAGED_BY, LABEL_SESSION, MANAGED_BY, job_name
from support.hostile import KEYS, TEXTS, examples, fitting, scalars, schema
from support.keys import DAILY_KEY

pytestmark = pytest.mark.usefixtures("beside")

MERGE = "application/merge-patch+json"
ELSEWHERE = "0b6f0f6e-7a8e-4f0e-9d39-4b6f5a1f0c11"
TIMES = ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]

limits = st.sampled_from(["", "[" * 100_000, "null", json.dumps({"ttlSecondsAfterFinished": 10**30})]) | (
    st.dictionaries(
        st.sampled_from(["startTimeoutSeconds", "maxDurationSeconds", "ttlSecondsAfterFinished"]), scalars
    ).map(json.dumps)
)


@examples(20)
@given(status=fitting(schema("BotSession", "status")))
@example({"phase": "Running", "endReason": "Bored"})
@example({"phase": "Succeeded", "endedAt": TIMES[0]})
@example({"phase": "Failed", "endReason": "Bored", "endedAt": TIMES[1]})
@example({"phase": "Pending", "jobName": "of-another"})
@example({"phase": "Ending", "room": {}})
def test_the_status_of_a_session(ground, status: Any):
    with ground.living() as session:
        path = f"{ground.root}/botsessions/{session['metadata']['name']}/status"
        code, answer = ground.api("PATCH", path, {"status": status}, MERGE)
        assert code < 500, answer
        ground.stop_and_end(session)


@examples(12)
@given(status=fitting(schema("Bot", "status")))
@example(
    {
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "", "message": "", "lastTransitionTime": t}
            for t in TIMES[1:2]
        ]
    }
)
def test_the_status_of_a_bot(ground, status: Any):
    code, answer = ground.api("PATCH", f"{ground.root}/bots/good/status", {"status": status}, MERGE)
    assert code < 500, answer
    with ground.living():
        """It starts, whatever its Bot is said to be."""


@examples(12)
@given(said=limits, more=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=2))
def test_the_annotations_of_a_job(ground, said: str, more: dict[str, str]):
    with ground.living() as session:
        path = f"/apis/batch/v1/namespaces/{ground.operated.namespace}/jobs/{job_name(session['metadata']['uid'])}"
        code, answer = ground.api(
            "PATCH", path, {"metadata": {"annotations": {**more, ANNOTATION_LIMITS: said}}}, MERGE
        )
        assert code in {200, 422}, answer
        ground.stop_and_end(session)


@examples(15)
@given(
    kind=st.sampled_from(["Job", "Pod"]),
    of=st.sampled_from(["the session", ELSEWHERE, "", "x"]),
    named=st.booleans(),
    owned=st.sampled_from([None, "Job", "BotSession"]),
    annotations=st.dictionaries(st.just(ANNOTATION_LIMITS), limits),
)
def test_an_object_with_our_labels(ground, kind: str, of: str, named: bool, owned: str | None, annotations: Any):
    with ground.living() as session:
        uid = session["metadata"]["uid"] if of == "the session" else of
        owner = {"apiVersion": "batch/v1", "kind": owned, "name": "x", "uid": ELSEWHERE, "controller": True}
        pod = {
            "restartPolicy": "Never",
            "containers": [{"name": "bot", "image": "x"}],
            "terminationGracePeriodSeconds": 0,
        }
        theirs = {
            "apiVersion": "batch/v1" if kind == "Job" else "v1",
            "kind": kind,
            "metadata": {
                "name": f"bs-{uid}-mine" if named and uid else "mine",
                "labels": {LABEL_SESSION: uid, LABEL_MANAGED_BY: MANAGED_BY},
                "annotations": annotations,
                "ownerReferences": [owner] if owned else [],
            },
            "spec": {"template": {"spec": pod}} if kind == "Job" else pod,
        }
        root = (
            f"{'/apis/batch/v1' if kind == 'Job' else '/api/v1'}/namespaces/{ground.operated.namespace}/{kind.lower()}s"
        )
        code, answer = ground.api("POST", root, theirs)
        assert code == 201, answer
        ground.stays_as_it_is(session)
        ground.api(
            "DELETE",
            f"{root}/{theirs['metadata']['name']}",
            {"propagationPolicy": "Background", "gracePeriodSeconds": 0},
        )
        ground.stays_as_it_is(session)
        ground.stop_and_end(session)


@pytest.mark.parametrize("exp", [1e300, 10**18, 253402300800, 1e11])
def test_a_room_of_somebody_else_that_lasts_for_ever(ground, exp: float):
    url, name = ground.operated.daily.ready["api_url"], f"somebodys-{exp:.0e}".replace("+", "")
    body = json.dumps({"name": name, "properties": {"exp": exp}}).encode()
    headers = {"Authorization": f"Bearer {DAILY_KEY}", "Content-Type": "application/json"}
    with ground.bearing():
        urllib.request.urlopen(urllib.request.Request(f"{url}/rooms", body, headers), timeout=5).close()
        swept = ground.sweeps()
        wait_until("two sweeps", lambda: ground.sweeps() >= swept + 2, 15)


def test_an_operator_starts_over_whatever_is_there(ground):
    """What it bears one by one must not end the list that it begins with."""
    with ground.living() as session, ground.living() as other:
        path = f"{ground.root}/botsessions/{session['metadata']['name']}/status"
        assert (
            ground.api("PATCH", path, {"status": {"phase": "Failed", "endReason": "x", "endedAt": TIMES[0]}}, MERGE)[0]
            == 200
        )
        job = f"/apis/batch/v1/namespaces/{ground.operated.namespace}/jobs/{job_name(other['metadata']['uid'])}"
        garbled = {"metadata": {"annotations": {ANNOTATION_LIMITS: "[" * 100_000}}}
        assert ground.api("PATCH", job, garbled, MERGE)[0] == 200
        deep = b"[" * 9_000 + b"]" * 9_000
        manifest = b'{"apiVersion":"pipecat.dev/v1alpha1","kind":"BotSession","metadata":{"name":"deep"},'
        manifest += b'"spec":{"botRef":{"name":"good"},"body":{"a":' + deep + b"}}}"
        assert ground.create("botsessions", manifest)[0] == 201
        ground.restart()
        ground.stays_as_it_is(other)
        ground.stop_and_end(other)
        ground.remove("botsessions", "deep")
