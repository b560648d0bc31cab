"""Carries out what was decided: the writes to Kubernetes and Daily. Each may be made twice and means once."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from loguru import logger

from pipecat_operator import names, status
from pipecat_operator.api import BotSession, BotSessionStatus, RoomStatus
from pipecat_operator.cache import Cache
from pipecat_operator.causes import Causes
from pipecat_operator.conditions import EndReason
from pipecat_operator.daily import Daily, DailyRefused, DailyUnavailable
from pipecat_operator.job import InvalidPodTemplate, job_manifest, room_expiry, secret_manifest
from pipecat_operator.kube import (
    EVENTS,
    JOBS,
    PODS,
    SECRETS,
    SESSIONS,
    AlreadyExists,
    ApiError,
    Kube,
    NotFound,
    Object,
    Refused,
    Resource,
)
from pipecat_operator.observe import Observed, PodView, Trouble, session_of_job
from pipecat_operator.rooms import RoomDeleter
from pipecat_operator.tokens import TokenRequest


class StartFailed(Exception):
    """The room, Secret or Job can't be made, and asking again changes nothing."""

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class StartDelayed(StartFailed):
    """It can't be made now: a quota may get free, a right be given."""


class Actor:
    """The operator's hands. ``installation`` is part of every room's name."""

    def __init__(
        self,
        kube: Kube,
        daily: Daily,
        cache: Cache,
        rooms: RoomDeleter,
        causes: Causes,
        installation: str,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._daily = daily
        self._cache = cache
        self._rooms = rooms
        self._installation = installation
        self._clock = clock
        self._causes = causes

    async def start(self, observed: Observed) -> BotSessionStatus:
        """Make the room, the Secret and the Job, or meet them where an earlier try made them.

        Raises:
            StartFailed: never to be made.
            StartDelayed, DailyUnavailable, ApiError: not now.
        """
        session = observed.session
        try:
            room = await self._room(observed)
        except DailyRefused as refused:
            raise StartFailed(EndReason.ROOM_FAILED, str(refused)) from refused
        expires_at = room.expires_at or room_expiry(observed.limits, self._clock())
        try:
            await self._secret(session, room, expires_at)
            if observed.job is None and observed.bot is not None:
                manifest = job_manifest(session, observed.bot, observed.limits, expires_at, self._clock())
                job = await self._make(JOBS, session, manifest)
                self._cache.apply_job("ADDED", job)
        except InvalidPodTemplate as invalid:
            raise StartFailed(EndReason.INVALID_POD_TEMPLATE, str(invalid)) from invalid
        return status.starting(session, room, self._clock())

    async def terminate(self, observed: Observed) -> None:
        """End the bot: its pod by the grace it has, or the Job when it has no pod. The Job stays as a record."""
        namespace, pod, job = observed.session.metadata.namespace, observed.pod, observed.job
        if pod and not pod.gone:
            await self._kube.delete(PODS, namespace, pod.name, pod.uid)
        elif job and not job.gone:
            await self._kube.delete(JOBS, namespace, job.name, job.uid)

    async def write_status(self, session: BotSession, wanted: BotSessionStatus) -> None:
        """Put the status, if the session still is the one we mean.

        Raises:
            NotFound, OtherObject: it is gone.
        """
        meta, value = session.metadata, wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
        stored = await self._kube.put_status(SESSIONS, meta.namespace, meta.name, meta.uid, value)
        # The watch may have told of its deletion meanwhile; nothing would tell of it again.
        if self._cache.observed(meta.uid):
            self._cache.apply_session("MODIFIED", stored)

    async def session_exists(self, session: BotSession) -> bool:
        """Ask the API server, not the cache."""
        meta = session.metadata
        return await self._kube.exists(SESSIONS, meta.namespace, meta.name, meta.uid)

    async def delete_session(self, uid: str, namespace: str, name: str) -> None:
        """Its TTL is over; Job, Pod and Secret go with it."""
        await self._kube.delete(SESSIONS, namespace, name, uid)

    def delete_room(self, session: BotSession) -> None:
        """Have the session's room deleted, if it is one of ours; it may have been made and not told of."""
        if session.spec.room.url is None:
            room = names.room_name(self._installation, session.metadata.uid)
            self._rooms.delete(room, session.status.room.expires_at if session.status.room else None)

    async def job_is_gone(self, session: BotSession) -> bool:
        """Ask the API server, not the cache."""
        try:
            name = names.job_name(session.metadata.uid)
            job = await self._kube.get(JOBS, session.metadata.namespace, name)
        except NotFound:
            self._cache.job_was_deleted(session.metadata.uid)
            return True
        self._cache.apply_job("MODIFIED", job)
        # One that somebody else made under its name is not it.
        return session_of_job(job) != session.metadata.uid

    async def find_pod(self, observed: Observed) -> PodView | None:
        """Ask the API server, not the cache; answers the last that was seen of it when it is gone."""
        uid, namespace = observed.session.metadata.uid, observed.session.metadata.namespace
        try:
            if observed.pod:
                # By its name: a list by label costs as much as one of all the namespace's pods.
                found = [await self._kube.get(PODS, namespace, observed.pod.name)]
            else:
                found, _ = await self._kube.list(PODS, namespace, {"labelSelector": f"{names.LABEL_SESSION}={uid}"})
        except NotFound:
            found = []
        for pod in found:
            self._cache.apply_pod("MODIFIED", pod)
        fresh = self._cache.observed(uid)
        return fresh.pod if fresh else observed.pod

    async def find_cause(self, observed: Observed) -> Trouble | None:
        """The latest warning about the session's Job or pod that tells why its bot does not start."""
        namespace = observed.session.metadata.namespace
        for thing, word, reason in (
            (observed.job, "FailedCreate", EndReason.POD_REFUSED),
            (observed.pod, "FailedMount", EndReason.BAD_CONFIG),
        ):
            message = await self._causes.about(thing.uid, namespace, word) if thing else None
            if message:
                return Trouble(reason, message, observed.seen_at)
        return None

    async def warn(self, session: BotSession, trouble: Trouble) -> None:
        """A Warning event on the session; one a reason, best effort."""
        now = self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
        meta = session.metadata
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"bs-{meta.uid}.{trouble.reason.lower()}", "namespace": meta.namespace},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": "BotSession",
                "name": meta.name,
                "namespace": meta.namespace,
                "uid": meta.uid,
            },
            "type": "Warning",
            "reason": trouble.reason,
            "message": trouble.message[:1024],
            "source": {"component": names.MANAGED_BY},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._kube.create(EVENTS, meta.namespace, event)
        except AlreadyExists:
            return
        except ApiError as error:
            logger.warning("Session {}: its event {} was not written: {}", meta.uid, trouble.reason, error)

    async def _room(self, observed: Observed) -> RoomStatus:
        session = observed.session
        wanted = session.spec.room
        if wanted.url is not None:
            return RoomStatus(url=wanted.url)
        if observed.room:
            return observed.room
        expires_at = room_expiry(observed.limits, self._clock())
        ours = {"exp": int(expires_at.timestamp()), "eject_at_room_exp": True}
        theirs = dict(wanted.properties)
        defaults = dict(observed.bot.spec.room) if observed.bot else {}
        name = names.room_name(self._installation, session.metadata.uid)
        room = await self._daily.make_room(name, defaults | theirs | ours)
        made = RoomStatus(name=room.name, url=room.url, expires_at=room.expires_at)
        self._cache.room_made(session.metadata.uid, made)
        return made

    async def _secret(self, session: BotSession, room: RoomStatus, expires_at: datetime) -> None:
        bot_token = user_token = None
        if room.name is not None:
            user = session.spec.user
            bot_token = await self._daily.token(TokenRequest(room.name, expires_at, owner=True))
            user_token = await self._daily.token(
                TokenRequest(room.name, expires_at, False, user.name, user.id, user.token_properties)
            )
        await self._make(SECRETS, session, secret_manifest(session, room.url, bot_token, user_token))

    async def _make(self, resource: Resource, session: BotSession, manifest: Object) -> Object:
        """Create, or meet what we created before.

        Raises:
            StartFailed: the API server refuses it, or somebody else's object has the name.
            StartDelayed: the API server refuses it as things are (403).
        """
        namespace, name = session.metadata.namespace, manifest["metadata"]["name"]
        kind = manifest["kind"]
        try:
            return await self._kube.create(resource, namespace, manifest)
        except AlreadyExists:
            try:
                there = await self._kube.get(resource, namespace, name)
            except Refused as refused:
                raise _refusal(kind, refused) from refused
        except Refused as refused:
            # Quotas and policies speak before the API server looks whether it is there already.
            try:
                there = await self._kube.get(resource, namespace, name)
            except (NotFound, Refused):
                raise _refusal(kind, refused) from refused
        owners = there["metadata"].get("ownerReferences") or ()
        if not any(owner.get("controller") and owner["uid"] == session.metadata.uid for owner in owners):
            raise StartFailed(
                EndReason.BAD_CONFIG,
                f"A {kind} {name!r} that isn't this session's stands in the way.",
            )
        return there


def _refusal(kind: str, refused: Refused) -> StartFailed:
    message = f"The API server refused the {kind}: {refused.message}"
    if refused.status == 403:
        return StartDelayed(EndReason.POD_REFUSED, message)
    invalid = refused.status in (400, 422) and "denied request" not in refused.message
    return StartFailed(EndReason.INVALID_POD_TEMPLATE if invalid else EndReason.POD_REFUSED, message)


TRANSIENT: Final = (DailyUnavailable, ApiError)
"""What a start may fail of and still work later."""
