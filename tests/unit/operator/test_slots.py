"""Who may start: in whatever order things happen, never more than the bounds say, and nobody is refused a free slot."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipecat_operator import names
from pipecat_operator.api import BotSession
from pipecat_operator.cache import Cache
from support.objects import NOW

CREATED = NOW.isoformat()
BOTS = ("assistant", "seller")
QUOTAS = (
    None,
    {"group": "acme", "maxSessions": 1},
    {"group": "acme", "maxSessions": 3},
    {"group": "b", "maxSessions": 0},
)


def uid_of(number: int) -> str:
    return f"{number:08x}-7a8e-4f0e-9d39-4b6f5a1f0c11"


def session_body(
    uid: str,
    bot: str = "assistant",
    namespace: str = "ns",
    version: int = 1,
    status: dict[str, Any] | None = None,
    **spec,
) -> dict[str, Any]:
    metadata = {
        "name": f"s-{uid[:8]}",
        "namespace": namespace,
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
    }
    return {"metadata": metadata, "spec": {"botRef": {"name": bot}, **spec}, "status": status or {}}


def bot_body(name: str = "assistant", version: int = 1, **capacity: Any) -> dict[str, Any]:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "resourceVersion": str(version),
        "creationTimestamp": CREATED,
    }
    return {"metadata": metadata, "spec": {"image": "x", "capacity": capacity}}


def job_body(uid: str, namespace: str = "ns") -> dict[str, Any]:
    owner = {"kind": "BotSession", "name": "s", "uid": uid, "controller": True}
    metadata = {
        "name": names.job_name(uid),
        "namespace": namespace,
        "uid": f"job-{uid}",
        "creationTimestamp": CREATED,
        "labels": {names.LABEL_SESSION: uid},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "status": {}}


def new_cache(over: list[BotSession] | None = None, **capacity: Any) -> Cache:
    """Of a leader that has listed everything there was, which is a Bot."""
    cache = Cache(changed=lambda _: None, over=(over or []).append, clock=lambda: NOW)
    cache.apply_bot(None, bot_body(**capacity))
    cache.retain_sessions(None, set(), 0)
    return cache


def start(cache: Cache, number: int, **spec: Any) -> str | None:
    """A new session asks for a slot; why it got none."""
    cache.apply_session("ADDED", session_body(uid_of(number), **spec))
    return cache.take_slot(uid_of(number))


def test_the_message_names_the_bound_and_where_to_raise_it():
    cache = new_cache(maxSessions=1)
    assert start(cache, 1) is None
    said = start(cache, 2)
    assert said
    assert said.startswith("Bot 'assistant' has all the sessions it may have, 1 (the Bot's spec.capacity.maxSessions).")
    assert "raise the bound" in said
    assert start(new_cache(), 1, quota={"group": "acme", "maxSessions": 0}) == (
        "Group 'acme' has all the sessions it may have, 0 "
        "(spec.quota.maxSessions; the gateway sets it from the API key). "
        "Start it anew when one of them has ended, or raise the bound."
    )


def test_none_may_start_at_zero():
    assert start(new_cache(maxSessions=0), 1)


def test_who_asks_again_has_its_slot_still():
    cache = new_cache(maxSessions=1)
    assert start(cache, 1) is None
    assert cache.take_slot(uid_of(1)) is None
    assert start(cache, 2)


def test_who_was_refused_holds_nothing():
    """Neither of its Bot nor of its group: both have to have one."""
    cache = new_cache(maxSessions=1)
    assert start(cache, 1, quota={"group": "full", "maxSessions": 0})
    assert start(cache, 2) is None
    assert start(cache, 3, quota={"group": "acme", "maxSessions": 1})
    cache.apply_bot("MODIFIED", bot_body(version=2, maxSessions=2))
    assert start(cache, 4, quota={"group": "acme", "maxSessions": 1}) is None


def test_a_group_ends_at_its_namespace():
    cache = new_cache()
    quota = {"group": "acme", "maxSessions": 1}
    cache.apply_bot(None, {**bot_body(), "metadata": {**bot_body()["metadata"], "namespace": "other"}})
    assert start(cache, 1, quota=quota) is None
    assert start(cache, 2, quota=quota, namespace="other") is None
    assert start(cache, 3, quota=quota)


@pytest.mark.parametrize("known", ["job", "job-first", "jobName", "Starting", "Running", "Ending"])
def test_who_started_under_a_leader_before_holds_a_slot(known: str):
    cache = new_cache(maxSessions=1)
    status = {"jobName": {"jobName": "bs-1"}}.get(known) or ({} if known.startswith("job") else {"phase": known})
    if known == "job-first":
        cache.apply_job("MODIFIED", job_body(uid_of(1)))
    cache.apply_session(None, session_body(uid_of(1), status=status))
    if known == "job":
        cache.apply_job("ADDED", job_body(uid_of(1)))
    assert cache.observed(uid_of(1)).needs_slot is False
    assert start(cache, 2)


def test_a_job_elsewhere_makes_no_session_a_started_one():
    cache = new_cache(maxSessions=1)
    cache.apply_session("ADDED", session_body(uid_of(1)))
    cache.apply_job("ADDED", job_body(uid_of(1), namespace="elsewhere"))
    assert cache.observed(uid_of(1)).needs_slot
    assert start(cache, 2) is None


def test_who_waits_for_its_bot_holds_no_slot():
    cache = new_cache(maxSessions=1)
    quota = {"group": "acme", "maxSessions": 1}
    cache.apply_session("ADDED", session_body(uid_of(1), bot="late", quota=quota))
    assert start(cache, 2, quota=quota) is None
    cache.apply_bot("ADDED", bot_body("late"))
    assert cache.take_slot(uid_of(1))


def test_only_who_may_have_started_may_have_a_room():
    """Daily deletes few rooms a minute: those of a thousand refused sessions, which never were, must not hold it up."""
    cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
    cache.apply_bot(None, bot_body(maxSessions=1))
    cache.apply_session(None, session_body(uid_of(1)))
    cache.retain_sessions("ns", {uid_of(1)}, 1)
    assert start(cache, 2) is None
    assert start(cache, 3)
    cache.apply_session("ADDED", session_body(uid_of(4), namespace="not-listed-yet"))
    assert [cache.may_have_room(uid_of(number)) for number in (1, 2, 3, 4)] == [True, True, False, True]


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
def test_it_is_still_told_when_a_session_is_over(kind: str):
    seen = []
    cache = Cache(
        changed=lambda _: None, over=lambda over: seen.append(cache.may_have_room(over.metadata.uid)), clock=lambda: NOW
    )
    cache.apply_session(None, session_body(uid_of(1)))
    cache.apply_session(kind, session_body(uid_of(1), version=2, status={"phase": "Failed"}))
    assert seen == [True]
    assert cache.may_have_room(uid_of(1)) is False


class Leaders(RuleBasedStateMachine):
    """One leader after another; ``truth`` is what the API server stores, ``admitted`` who may start."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.truth: dict[str, dict[str, Any]] = {}
        self.jobs: set[str] = set()
        self.admitted: set[str] = set()
        self.bounds: dict[str, int | None] = {}
        self.lead()

    def lead(self) -> None:
        """As main does it: Jobs, then Bots, then sessions, then work."""
        self.cache = Cache(changed=lambda _: None, over=lambda _: None, clock=lambda: NOW)
        for uid in sorted(self.jobs):
            self.cache.apply_job("MODIFIED", job_body(uid))
        for name, most in self.bounds.items():
            self.cache.apply_bot(None, bot_body(name, self.version, maxSessions=most))
        for body in self.truth.values():
            self.cache.apply_session(None, body)
        self.cache.retain_sessions(None, set(self.truth), self.version)
        # What the last one had only in mind is lost; who has a Job has started.
        self.admitted = set(self.jobs)

    def stored(self, uid: str, **status: Any) -> dict[str, Any]:
        self.version += 1
        before = self.truth[uid]
        metadata = {**before["metadata"], "resourceVersion": str(self.version)}
        return {**before, "metadata": metadata, "status": {**before["status"], **status}}

    def holders(self, **of: Any) -> int:
        return sum(all(self.traits(uid)[name] == value for name, value in of.items()) for uid in self.admitted)

    def traits(self, uid: str) -> dict[str, Any]:
        spec = self.truth[uid]["spec"]
        return {"bot": spec["botRef"]["name"], "group": (spec.get("quota") or {}).get("group")}

    @initialize(most=st.sampled_from([None, 0, 1, 2]))
    def first_bot(self, most: int | None) -> None:
        self.bound("assistant", most)

    @rule(name=st.sampled_from(BOTS), most=st.sampled_from([None, 0, 1, 2, 3]))
    def bound(self, name: str, most: int | None) -> None:
        self.version += 1
        self.bounds[name] = most
        self.cache.apply_bot("MODIFIED", bot_body(name, self.version, maxSessions=most))

    @rule(name=st.sampled_from(BOTS))
    def delete_bot(self, name: str) -> None:
        self.version += 1
        if self.bounds.pop(name, False) is not False:
            self.cache.apply_bot("DELETED", bot_body(name, self.version))

    @rule(bot=st.sampled_from(BOTS), quota=st.sampled_from(QUOTAS))
    def create(self, bot: str, quota: dict[str, Any] | None) -> None:
        self.version += 1
        uid = uid_of(self.version)
        self.truth[uid] = session_body(uid, bot, version=self.version, **({"quota": quota} if quota else {}))
        self.cache.apply_session("ADDED", self.truth[uid])

    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        """As the reconciler does it of one that has not started."""
        waiting = [uid for uid in self.truth if (seen := self.cache.observed(uid)) and seen.bot and seen.needs_slot]
        if not waiting:
            return
        uid = data.draw(st.sampled_from(waiting))
        of, quota = self.traits(uid), self.truth[uid]["spec"].get("quota")
        most = self.bounds[of["bot"]]
        room = most is None or self.holders(bot=of["bot"]) < most
        room_in_group = quota is None or self.holders(group=of["group"]) < quota["maxSessions"]
        full = self.cache.take_slot(uid)
        assert (full is None) == (room and room_in_group), full
        if full is None:
            self.admitted.add(uid)
        else:
            self.truth[uid] = self.stored(uid, phase="Failed", endReason="CapacityReached")
            self.cache.apply_session("MODIFIED", self.truth[uid])

    @rule(data=st.data(), told=st.booleans(), watched=st.booleans())
    def make_job(self, data: st.DataObject, told: bool, watched: bool) -> None:
        """The operator may die before it could say so, and its watch may lag."""
        if not (without := sorted(self.admitted - self.jobs)):
            return
        uid = data.draw(st.sampled_from(without))
        self.jobs.add(uid)
        if watched:
            self.cache.apply_job("ADDED", job_body(uid))
        if told:
            self.truth[uid] = self.stored(uid, phase="Starting", jobName=names.job_name(uid))
            self.cache.apply_session("MODIFIED", self.truth[uid])

    @rule(data=st.data(), deleted=st.booleans(), twice=st.booleans())
    def end(self, data: st.DataObject, deleted: bool, twice: bool) -> None:
        if not self.truth:
            return
        uid = data.draw(st.sampled_from(sorted(self.truth)))
        body = self.stored(uid, phase="Succeeded")
        for _ in range(1 + twice):
            self.cache.apply_session("DELETED" if deleted else "MODIFIED", body)
        self.admitted.discard(uid)
        self.jobs.discard(uid)
        if deleted:
            del self.truth[uid]
        else:
            self.truth[uid] = body

    @rule()
    def restart(self) -> None:
        self.lead()

    @rule()
    def resync(self) -> None:
        for body in self.truth.values():
            self.cache.apply_session(None, body)
        self.cache.retain_sessions(None, set(self.truth), self.version)

    @invariant()
    def who_was_let_in_needs_no_slot(self) -> None:
        assert {
            uid for uid in self.truth if (seen := self.cache.observed(uid)) and not seen.needs_slot
        } == self.admitted


TestLeaders = Leaders.TestCase
TestLeaders.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
