"""What the watches told, by session: all the state the operator holds, and it can be listed again."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from loguru import logger
from pydantic import ValidationError

from pipecat_operator.api import Bot, BotSession, BotSessionStatus, RoomStatus, resolve_limits
from pipecat_operator.conditions import Phase
from pipecat_operator.kube import Object
from pipecat_operator.observe import (
    JobView,
    Observed,
    PodView,
    Trouble,
    job_view,
    pod_view,
    session_of_job,
    session_of_pod,
)
from pipecat_operator.slots import Slots

FRESH = timedelta(seconds=2)
"""A session first seen so soon after its creation was new: creationTimestamp has whole seconds only."""

BotKey = tuple[str, str]
"""Namespace and name."""

Place = tuple[str, str]
"""Namespace and UID of a session. Who may write in one namespace must not speak of another's sessions."""

View = TypeVar("View", JobView, PodView)


@dataclass(frozen=True, slots=True)
class Finished:
    """All that is kept of a session that ended."""

    namespace: str
    name: str
    version: int
    expires_at: datetime


class Cache:
    """Sessions, Bots, Jobs and Pods as last seen. ``changed`` is called with the UID of a session to look at."""

    def __init__(
        self,
        changed: Callable[[str], None],
        over: Callable[[BotSession], None],
        clock: Callable[[], datetime],
    ) -> None:
        """``over`` is called with a session that was live until it ended or was deleted, whoever told first.

        Just before it is forgotten: ``may_have_room`` still knows it.
        """
        self._changed = changed
        self._over = over
        self._clock = clock
        self._sessions: dict[str, BotSession] = {}
        self._seen_at: dict[str, datetime] = {}
        self._finished: dict[str, Finished] = {}
        self._jobs: dict[Place, JobView] = {}
        self._pods: dict[Place, PodView] = {}
        self._bots: dict[BotKey, Bot] = {}
        self._by_bot: defaultdict[BotKey, set[str]] = defaultdict(set)
        self._rooms: dict[str, RoomStatus] = {}
        self._start_troubles: dict[str, Trouble] = {}
        self._slots = Slots()
        self._listed: set[str | None] = set()
        """Namespaces whose sessions were listed once; None: all."""
        self._inherited: set[str] = set()

    # What decisions read

    def observed(self, uid: str) -> Observed | None:
        """The snapshot of a live session; None when there is none (any more)."""
        session = self._sessions.get(uid)
        if session is None:
            return None
        bot = self._bots.get(_bot_key(session))
        job = self._jobs.get(_place(session))
        limits = job.limits if job and job.limits else resolve_limits(session, bot)
        return Observed(
            session=session,
            limits=limits,
            seen_at=self._seen_at[uid],
            bot=bot,
            job=job,
            pod=self._pods.get(_place(session)),
            room=self._rooms.get(uid),
            start_trouble=self._start_troubles.get(uid),
            needs_slot=not self._slots.holds(uid),
        )

    def finished(self, uid: str) -> Finished | None:
        """A session that ended and waits for its TTL."""
        return self._finished.get(uid)

    def phases(self) -> Mapping[Phase, int]:
        """How many live sessions there are of each phase."""
        return Counter(session.status.phase or Phase.PENDING for session in self._sessions.values())

    def live(self, bot: BotKey) -> int:
        """How many live sessions name this Bot."""
        return len(self._by_bot.get(bot, ()))

    def may_have_room(self, uid: str) -> bool:
        """Whether anybody can have made a room for that live session: we, or a leader before us."""
        return self._slots.holds(uid) or uid in self._inherited

    def has_bot(self, bot: BotKey) -> bool:
        """Whether there is such a Bot."""
        return bot in self._bots

    def bots(self) -> Iterable[tuple[BotKey, Bot]]:
        """Every Bot."""
        return tuple(self._bots.items())

    def uids(self) -> tuple[str, ...]:
        """Every live session."""
        return tuple(self._sessions)

    # Who may start

    def take_slot(self, uid: str) -> str | None:
        """Give the session, whose Bot is there, a slot until its end; why not, if all are taken."""
        session = self._sessions[uid]
        return self._slots.take(session, self._bots[_bot_key(session)])

    # What the watches, and our own writes, tell

    def apply_session(self, kind: str | None, body: Object) -> None:
        """A BotSession was listed (kind None), added, modified or deleted."""
        uid = body["metadata"]["uid"]
        if kind == "DELETED":
            self.drop(uid)
            return
        if self._version(uid) >= int(body["metadata"]["resourceVersion"]):
            # Our own write, or a list, told as much already.
            return
        try:
            session = BotSession.model_validate(_without_body(body))
        except ValidationError:
            # Older than the schema that refuses it: there is nothing to run, and nothing was made for it.
            return
        if session.status.phase and session.status.phase.finished:
            self._finish(uid, session)
        elif uid not in self._finished:
            if uid not in self._sessions and self._listed.isdisjoint((None, session.metadata.namespace)):
                self._inherited.add(uid)
            self._sessions[uid] = session
            self._seen_at.setdefault(uid, self._first_seen(session))
            self._by_bot[_bot_key(session)].add(uid)
            if _has_started(session) or _place(session) in self._jobs:
                self._slots.hold(session)
            if session.status.room:
                self._rooms.pop(uid, None)
        self._changed(uid)

    def apply_bot(self, kind: str | None, body: Object) -> None:
        """A Bot was listed, added, modified or deleted."""
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        before = self._bots.get(key)
        if before and _version(before) > int(body["metadata"].get("resourceVersion", 0)):
            # Of an earlier Bot of that name: kopf keeps the order of each object's events, not of each name's.
            return
        known = key in self._bots
        if kind == "DELETED":
            self._bots.pop(key, None)
        else:
            try:
                self._bots[key] = Bot.model_validate(body)
            except ValidationError as error:
                # Older than the schema that refuses it. Nobody wants the one that it was before it was changed.
                logger.warning("Bot {}/{} is taken for missing, it can't be read: {}", *key, _problems(error))
                self._bots.pop(key, None)
        if known != (key in self._bots):
            for uid in self._by_bot.get(key, ()):
                self._changed(uid)

    def apply_job(self, kind: str, body: Object) -> None:
        """A Job of ours was added, modified or deleted."""
        uid = session_of_job(body)
        if uid is None or uid in self._finished:
            return
        place, view = (body["metadata"]["namespace"], uid), job_view(body)
        if kind == "DELETED":
            if not self._lives(place):
                self._jobs.pop(place, None)
                return
            view = replace(view, gone=True)
        if self._lives(place):
            self._slots.hold(self._sessions[uid])
        if view != self._jobs.get(place):
            self._jobs[place] = view
            self._changed(uid)

    def apply_pod(self, kind: str, body: Object) -> None:
        """A Pod of ours was added, modified or deleted."""
        uid = session_of_pod(body)
        if uid is None or uid in self._finished:
            return
        place, view = (body["metadata"]["namespace"], uid), pod_view(body)
        if kind == "DELETED":
            if not self._lives(place):
                self._pods.pop(place, None)
                return
            view = replace(view, gone=True)
        if view != self._pods.get(place):
            self._pods[place] = view
            self._changed(uid)

    def retain_sessions(self, namespace: str | None, uids: Set[str], version: int) -> None:
        """What a list didn't name was deleted while nobody watched.

        ``version``: the list's own. What is known from later may have been made since.
        """
        known = [(uid, s.metadata.namespace, _version(s)) for uid, s in self._sessions.items()]
        known += [(uid, f.namespace, f.version) for uid, f in self._finished.items()]
        for uid, at, seen in known:
            if uid not in uids and namespace in (None, at) and seen <= version:
                self.drop(uid)
        self._listed.add(namespace)

    def retain_bots(self, namespace: str | None, uids: Set[str], version: int) -> None:
        """As for sessions."""
        for key, bot in tuple(self._bots.items()):
            if bot.metadata.uid not in uids and namespace in (None, key[0]) and _version(bot) <= version:
                del self._bots[key]

    def retain_jobs(self, namespace: str | None, uids: Set[str]) -> None:
        """What a list of our Jobs didn't name was deleted while nobody watched."""
        self._retain(self._jobs, namespace, uids)

    def retain_pods(self, namespace: str | None, uids: Set[str]) -> None:
        """As for Jobs."""
        self._retain(self._pods, namespace, uids)

    def end_untold(self, session: BotSession, status: BotSessionStatus) -> None:
        """It ended, and is too large for its status to be stored: it waits for its TTL all the same."""
        self._finish(session.metadata.uid, session.model_copy(update={"status": status}))
        self._changed(session.metadata.uid)

    def job_was_deleted(self, uid: str) -> None:
        """We deleted it ourselves, or the API server says it isn't there."""
        session = self._sessions.get(uid)
        if session and (job := self._jobs.get(_place(session))):
            self._jobs[_place(session)] = replace(job, gone=True)

    def room_made(self, uid: str, room: RoomStatus) -> None:
        """For another try to start, should this one fail; a status that tells it makes it needless."""
        if uid in self._sessions:
            self._rooms[uid] = room

    def start_failed(self, uid: str, trouble: Trouble | None) -> None:
        """Why the last try to start failed; None: it did not."""
        if trouble is None:
            self._start_troubles.pop(uid, None)
        elif uid in self._sessions:
            self._start_troubles[uid] = trouble

    def drop(self, uid: str) -> None:
        """There is no such session any more."""
        session = self._sessions.get(uid)
        if session:
            self._over(session)
        self._drop(uid)
        # For the queue to give up its wake-up.
        self._changed(uid)

    def _retain(self, views: MutableMapping[Place, View], namespace: str | None, uids: Set[str]) -> None:
        for place, view in tuple(views.items()):
            if view.uid in uids or view.gone or namespace not in (None, place[0]):
                continue
            if self._lives(place):
                views[place] = replace(view, gone=True)
                self._changed(place[1])
            else:
                del views[place]

    def _version(self, uid: str) -> int:
        """Of what is known of that session; 0: nothing."""
        if session := self._sessions.get(uid):
            return _version(session)
        finished = self._finished.get(uid)
        return finished.version if finished else 0

    def _lives(self, place: Place) -> bool:
        session = self._sessions.get(place[1])
        return session is not None and session.metadata.namespace == place[0]

    def _first_seen(self, session: BotSession) -> datetime:
        now, created = self._clock(), session.metadata.creation_timestamp
        return now if now - created < FRESH else created

    def _finish(self, uid: str, session: BotSession) -> None:
        if uid in self._sessions:
            self._over(session)
        job = self._jobs.get(_place(session))
        limits = job.limits if job and job.limits else resolve_limits(session, self._bots.get(_bot_key(session)))
        # Whoever wrote the status: nobody ended in the future.
        ended = min(session.status.ended_at or self._clock(), self._clock())
        self._drop(uid)
        # They may be older than what was known of the session.
        self._jobs.pop(_place(session), None)
        self._pods.pop(_place(session), None)
        self._finished[uid] = Finished(
            session.metadata.namespace,
            session.metadata.name,
            _version(session),
            ended + timedelta(seconds=limits.ttl_seconds_after_finished),
        )

    def _drop(self, uid: str) -> None:
        session = self._sessions.pop(uid, None)
        if session:
            self._slots.release(session)
            self._by_bot[_bot_key(session)].discard(uid)
            if not self._by_bot[_bot_key(session)]:
                del self._by_bot[_bot_key(session)]
            self._jobs.pop(_place(session), None)
            self._pods.pop(_place(session), None)
        for kept in (self._seen_at, self._finished, self._rooms, self._start_troubles):
            kept.pop(uid, None)
        self._inherited.discard(uid)


def _has_started(session: BotSession) -> bool:
    """Whether its status tells that a leader before us gave it a slot."""
    return bool(session.status.job_name) or session.status.phase not in (None, Phase.PENDING)


def _without_body(session: Object) -> Object:
    """Once there is a Job, spec.body is in its Secret: ten thousand of up to 64 KiB are not kept here."""
    if not (session.get("status") or {}).get("jobName"):
        return session
    return {**session, "spec": {name: value for name, value in session["spec"].items() if name != "body"}}


def _problems(error: ValidationError) -> str:
    """Without values: a Bot's variables may be keys."""
    found = error.errors(include_input=False, include_url=False)
    return "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in found)


def _bot_key(session: BotSession) -> BotKey:
    return session.metadata.namespace, session.spec.bot_ref.name


def _place(session: BotSession) -> Place:
    return session.metadata.namespace, session.metadata.uid


def _version(thing: BotSession | Bot) -> int:
    """Comparable since Kubernetes 1.35 says so; before, every API server had them so anyway."""
    return int(thing.metadata.resource_version)
