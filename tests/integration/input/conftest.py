"""An operator that lives through a module of bad objects, and the good sessions beside them."""

import asyncio
import json
import re
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import currently_in_test_context, event

from pipecat_local.controlplane import Cluster
from pipecat_local.kwok import KwokNodes
from pipecat_local.processes import wait_until
from pipecat_operator.conditions import MESSAGE_MAX, EndReason
from pipecat_operator.kube import TOO_LARGE
from support.operated import BY_OPERATOR, DAILY_KEY, Child, Operated, get
from support.raw_api import RawApi

SETTLED_S = 15.0
GONE = "Gone"
"""In place of the phase of an object that isn't there."""
CALLS_MAX = 12
"""To Daily, for one bad object: two are a good life's."""
WRITES_MAX = 6
"""Of one object, or its status: a life has Pending, Starting, Running, Ending and its end."""


class Ground:
    """A namespace with one operator, and what may be asked of it after each bad object."""

    def __init__(self, operated: Operated, api: RawApi) -> None:
        self.operated = operated
        self.api = api
        self.root = f"/apis/pipecat.dev/v1alpha1/namespaces/{operated.namespace}"
        self.operator: Child = self._started()
        self._canary: dict[str, Any] = {}

    def _started(self) -> Child:
        return self.operated.start(PIPECAT_OPERATOR_SWEEP_SECONDS="2")

    def restart(self) -> None:
        """The operator ends, and another one begins with a list of all there is."""
        assert self.operator.stop() == 0
        self.operator = self._started()

    def create(self, kind: str, body: Any) -> tuple[int, dict[str, Any]]:
        """POST it."""
        return self.api("POST", f"{self.root}/{kind}", body)

    def status(self, kind: str, name: str) -> dict[str, Any]:
        """Of that object."""
        code, there = self.api("GET", f"{self.root}/{kind}/{name}")
        return {"phase": GONE} if code == 404 else there.get("status") or {}

    def remove(self, kind: str, name: str) -> None:
        """Have it gone, finalizers and all."""
        self.api("DELETE", f"{self.root}/{kind}/{name}")

    def settled(self, session: dict[str, Any]) -> dict[str, Any]:
        """The status of that session once it lives, ended, or says that it waits for its Bot."""
        name = session["metadata"]["name"]
        bot_is_missing = self.api("GET", f"{self.root}/bots/{session['spec']['botRef']['name']}")[0] == 404

        def told(status: dict[str, Any]) -> bool:
            waits = bot_is_missing and "is not in namespace" in status.get("message", "")
            return waits or status.get("phase") not in (None, "Pending")

        status = self.until(name, told)
        _note(f"session: {status['phase']} {status.get('endReason', '')}")
        if status["phase"] in ("Succeeded", "Failed"):
            assert EndReason(status["endReason"]).phase == status["phase"]
            assert status["message"]
        assert len(status.get("message", "")) <= MESSAGE_MAX
        return status

    def bears(self, kind: str, body: Any, session: Any = None) -> None:
        """That object is refused with a message; or it is made, and it (or a session of it) lives or ends well told."""
        code, answer = self.create(kind, body)
        _note(f"{kind}: {code}")
        if code >= 400:
            # etcd, and the way to it, refuse by a 500 what is too large for them.
            assert code < 500 or any(words in answer["message"] for words in TOO_LARGE), answer
            assert answer["message"]
            return
        name = answer["metadata"]["name"]
        try:
            with self.bearing():
                if session is None:
                    self.settled(answer)
                else:
                    self.bears("botsessions", session)
        finally:
            self.remove(kind, name)

    @contextmanager
    def living(self) -> Iterator[dict[str, Any]]:
        """A session of the good Bot that runs; what is done to it, or beside it, the operator bears."""
        manifest = {
            "apiVersion": "pipecat.dev/v1alpha1",
            "kind": "BotSession",
            "metadata": {"generateName": "living-"},
            "spec": {"botRef": {"name": "good"}},
        }
        name = self.create("botsessions", manifest)[1]["metadata"]["name"]
        try:
            with self.bearing():
                self.until(name, lambda status: status.get("phase") == "Running")
                yield self.api("GET", f"{self.root}/botsessions/{name}")[1]
        finally:
            self.remove("botsessions", name)

    def until(self, name: str, what: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The status of that session, once ``what`` holds of it."""

        def told() -> dict[str, Any]:
            status = self.status("botsessions", name)
            return status if what(status) else {}

        try:
            return wait_until(f"session {name!r}", told, SETTLED_S, 0.01)
        except TimeoutError as error:
            error.add_note(json.dumps(self.status("botsessions", name))[:3000])
            error.add_note(self.operator.log()[-3000:])
            raise

    def stop_and_end(self, session: dict[str, Any]) -> None:
        """Ask it to end; it does, whatever else was done to it. Its TTL may be over by then."""
        name = session["metadata"]["name"]
        self.api("PATCH", f"{self.root}/botsessions/{name}", {"spec": {"stop": True}}, "application/merge-patch+json")
        self.until(name, lambda status: status.get("phase") in ("Succeeded", "Failed", GONE))

    def stays_as_it_is(self, session: dict[str, Any]) -> None:
        """Nothing was written to that session, once the operator has seen what happened before this call."""
        with self.living():
            """Its pod came by the same watch as whatever came before."""
        assert self.api("GET", f"{self.root}/botsessions/{session['metadata']['name']}")[1] == session

    @contextmanager
    def bearing(self) -> Iterator[None]:
        """The operator bears what happens inside: no failure, no traceback, few calls, an empty queue."""
        first, logged, daily = self.operator, len(self.operator.log()), self.calls_to_daily()
        audited = self.operated.cluster.audit_log.stat().st_size
        yield
        wait_until("an empty queue", lambda: self.metric("pipecat_queue_depth") == 0, 10)
        said = self.operator.log()[logged if self.operator is first else 0 :]
        assert self.operator.ended() is None, said
        assert get(f"{self.operated.metrics_url}/healthz")[0] == 200
        assert "Traceback" not in said, said
        assert "will be tried again" not in said, said
        assert self.calls_to_daily() - daily <= CALLS_MAX
        assert all(times <= WRITES_MAX for times in self.writes(audited).values()), self.writes(audited)

    def calls_to_daily(self) -> float:
        """So far, without the sweeps."""
        return self.metric("pipecat_daily_request_seconds_count") - self.sweeps()

    def writes(self, since: int) -> Counter[str]:
        """How often the operator wrote to each object, from that byte of the audit log on."""
        audited = self.operated.cluster.audited(self.operated.namespace, BY_OPERATOR, since=since)
        of = [event["objectRef"] for event in audited]
        return Counter(
            f"{ref['resource']}/{ref.get('name')}/{ref.get('subresource', '')}"
            for ref in of
            if "name" in ref and ref["resource"] != "leases"
        )

    def sweeps(self) -> float:
        """Lists of Daily's rooms."""
        return self.metric("pipecat_daily_request_seconds_count", "list_rooms")

    def metric(self, name: str, label: str = "") -> float:
        """The sum over its labels, or over those that say so."""
        _, text = get(f"{self.operated.metrics_url}/metrics")
        lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line) and label in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def canary(self, name: str) -> dict[str, Any]:
        """A good session that runs."""
        self.operated.session(name, bot="good")
        self.operated.until_phase("Running", name=name)
        return self.operated.get("botsession", name)


def _note(what: str) -> None:
    """For --hypothesis-show-statistics: how many were refused, and how sessions ended."""
    if currently_in_test_context():
        event(what)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A namespace whose pods kwok plays."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    async with KwokNodes(cluster, tmp_path_factory.mktemp("kwok"), pool=name):
        await asyncio.to_thread(cluster.create_namespace, name, name)
        yield name
        await asyncio.to_thread(cluster.kubectl, "delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def ground(cluster: Cluster, nodes: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One for the module: what a bad object does to the next is the point."""
    folder = tmp_path_factory.mktemp("input")
    daily = Child(
        [sys.executable, "-m", "pipecat_local.daily", "--no-limits"], {"DAILY_API_KEY": DAILY_KEY}, folder / "daily.log"
    )
    operated, api = Operated(cluster, nodes, daily, folder), RawApi(cluster)
    operated.bot("good")
    yield Ground(operated, api)
    operated.close()
    daily.stop()
    api.close()


@pytest.fixture
def beside(ground: Ground) -> Iterator[None]:
    """A good session lives through the test untouched, and one made after it works."""
    name, audited = f"canary-{uuid.uuid4().hex[:8]}", ground.operated.cluster.audit_log.stat().st_size
    before = ground.canary(name)
    yield
    now = ground.operated.get("botsession", name)
    assert now == before
    later = f"{name}-later"
    ground.canary(later)
    for each in (name, later):
        ground.operated.kubectl("patch", "botsession", each, "--type=merge", "--patch", '{"spec":{"stop":true}}')
        assert ground.operated.until_ended(each)["endReason"] == "Stopped"
        assert ground.writes(audited)[f"botsessions/{each}/status"] >= 3, "the count sees nothing"
        ground.remove("botsessions", each)
