"""What no session's own reconciliation can do: rooms that nobody owns, and what a watch lost."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime, timedelta
from typing import Final

from loguru import logger

from pipecat_operator import names
from pipecat_operator.advice import advised
from pipecat_operator.cache import Cache
from pipecat_operator.conditions import EndReason, Phase
from pipecat_operator.daily import Daily, DailyError, DailyRefused, Room
from pipecat_operator.kube import BOTS, SESSIONS, ApiError, Kube, Object, Refused, Resource, where
from pipecat_operator.lease import LeadershipLost
from pipecat_operator.rooms import RoomDeleter

ORPHAN_AGE: Final = timedelta(minutes=10)
"""A younger room may be one whose session we don't see yet."""

RETRY_S: Final = 5.0
"""After a list that failed; a sweep waits longer each time."""

APART_S: Final = 5.0
"""From the end of a resync to the next: a watch that breaks again and again asks for one each time."""


class SessionLister:
    """Every BotSession and Bot of the watched namespaces, from the API server."""

    def __init__(self, kube: Kube, namespaces: Iterable[str]) -> None:
        self._kube = kube
        self._namespaces: list[str | None] = list(namespaces) or [None]

    async def ended(self) -> dict[str, bool]:
        """Whether it has ended, of each session by UID. Raises rather than answer a part."""
        found: dict[str, bool] = {}
        for namespace in self._namespaces:
            async for page in self._kube.pages(SESSIONS, namespace):
                found |= {session["metadata"]["uid"]: _has_ended(session) for session in page.items}
        return found

    async def refill(self, cache: Cache) -> None:
        """Make the cache whole again.

        Raises:
            ApiError: nothing could be listed; or not now. A namespace that we may not list keeps no other waiting.
        """
        refused: list[Refused] = []
        for namespace in self._namespaces:
            listed = BOTS
            try:
                await self._each(BOTS, namespace, cache.apply_bot, cache.retain_bots)
                listed = SESSIONS
                await self._each(SESSIONS, namespace, cache.apply_session, cache.retain_sessions)
            except Refused as error:
                logger.warning("{} can't be listed: {}", where(listed, namespace), error)
                refused.append(error)
        if len(refused) == len(self._namespaces):
            raise refused[-1]

    async def _each(
        self,
        resource: Resource,
        namespace: str | None,
        apply: Callable[[str | None, Object], None],
        retain: Callable[[str | None, Set[str], int], None],
    ) -> None:
        uids: set[str] = set()
        async for page in self._kube.pages(resource, namespace):
            for body in page.items:
                uids.add(body["metadata"]["uid"])
                apply(None, body)
        retain(namespace, uids, int(page.version))


async def resync(
    lister: SessionLister, cache: Cache, every_s: float, missed: asyncio.Event, changed: Callable[[str], None]
) -> None:
    """List everything again and again, until cancelled: it repairs what a watch lost.

    At once when ``missed`` is set: something is known to be lost.
    """
    wait_s, apart_s = every_s, 0.0
    while True:
        await asyncio.sleep(apart_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s - apart_s):
                await missed.wait()
        missed.clear()
        wait_s, apart_s = every_s, min(APART_S, every_s)
        try:
            await lister.refill(cache)
        except LeadershipLost:
            raise
        except Exception as error:
            wait_s = min(RETRY_S, every_s) if isinstance(error, ApiError) else every_s
            logger.warning("The resync failed, the next is in {:.0f} s: {}", wait_s, _said(error))
            continue
        for uid in cache.uids():
            changed(uid)
            # One by one: a new session must not wait behind ten thousand.
            await asyncio.sleep(0)


def orphans(rooms: Iterable[Room], ended: Mapping[str, bool], installation: str, now: datetime) -> list[Room]:
    """The rooms of ours to delete: their session has ended, or is not there and the room is old. Pure."""
    found = []
    for room in rooms:
        uid = names.room_owner(installation, room.name)
        if uid is None:
            continue
        if ended[uid] if uid in ended else now - room.created_at >= ORPHAN_AGE:
            found.append(room)
    return found


def _has_ended(session: Object) -> bool:
    """A word that a newer CRD may have is not one of an end."""
    phase = (session.get("status") or {}).get("phase")
    return any(phase == known for known in Phase if known.finished)


def _said(error: Exception) -> str:
    """In one line; what nobody foresaw (an odd answer) by its type, too."""
    if isinstance(error, DailyError):
        return advised(EndReason.ROOM_FAILED, str(error))
    return str(error) if isinstance(error, ApiError) else repr(error)


def again_s(error: Exception, failures: int, every_s: float) -> float:
    """Seconds until the sweep after so many in a row that failed, the last of them so. Pure."""
    if isinstance(error, Refused | DailyRefused):
        return every_s
    retry_after = error.retry_after if isinstance(error, ApiError | DailyError) else None
    return max(min(every_s, RETRY_S * 2.0 ** min(failures - 1, 16)), retry_after or 0)


async def sweep(
    daily: Daily,
    lister: SessionLister,
    rooms: RoomDeleter,
    installation: str,
    every_s: float,
    clock: Callable[[], datetime],
) -> None:
    """Delete the rooms that nobody owns, at start and again and again, until cancelled."""
    failures = 0
    while True:
        try:
            # Rooms first: a room made between the two lists is then not looked at.
            there = await daily.rooms()
            owned_by_nobody = orphans(there, await lister.ended(), installation, clock())
        except LeadershipLost:
            raise
        except Exception as error:
            failures += 1
            wait_s = again_s(error, failures, every_s)
            logger.warning("No sweep now, the next is in {:.0f} s: {}", wait_s, _said(error))
        else:
            failures, wait_s = 0, every_s
            for room in owned_by_nobody:
                rooms.delete(room.name, room.expires_at)
        await asyncio.sleep(wait_s)
