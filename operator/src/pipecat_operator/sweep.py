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
from pipecat_operator.daily import Daily, DailyError, Room
from pipecat_operator.kube import BOTS, SESSIONS, ApiError, Kube, Object, Refused, Resource, where
from pipecat_operator.rooms import RoomDeleter

ORPHAN_AGE: Final = timedelta(minutes=10)
"""A younger room may be one whose session we don't see yet."""

RETRY_S: Final = 5.0
"""After a list that failed."""


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
            try:
                await self._each(BOTS, namespace, cache.apply_bot, cache.retain_bots)
                await self._each(SESSIONS, namespace, cache.apply_session, cache.retain_sessions)
            except Refused as error:
                logger.warning("{} can't be listed: {}", where(SESSIONS, namespace), error)
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
    wait_s = every_s
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await missed.wait()
        missed.clear()
        try:
            await lister.refill(cache)
        except ApiError as error:
            wait_s = min(RETRY_S, every_s)
            logger.warning("The resync failed, the next is in {:.0f} s: {}", wait_s, error)
            continue
        wait_s = every_s
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
    phase = (session.get("status") or {}).get("phase")
    return phase is not None and Phase(phase).finished


async def sweep(
    daily: Daily,
    lister: SessionLister,
    rooms: RoomDeleter,
    installation: str,
    every_s: float,
    clock: Callable[[], datetime],
) -> None:
    """Delete the rooms that nobody owns, at start and again and again, until cancelled."""
    while True:
        try:
            # Rooms first: a room made between the two lists is then not looked at.
            there = await daily.rooms()
            ended = await lister.ended()
        except (DailyError, ApiError) as error:
            again_s = min(every_s, RETRY_S)
            why = advised(EndReason.ROOM_FAILED, str(error)) if isinstance(error, DailyError) else str(error)
            logger.warning("No sweep now, the next is in {:.0f} s: {}", again_s, why)
            await asyncio.sleep(again_s)
        else:
            for room in orphans(there, ended, installation, clock()):
                rooms.delete(room.name, room.expires_at)
            await asyncio.sleep(every_s)
