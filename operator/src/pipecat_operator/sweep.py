"""What no session's own reconciliation can do: rooms that nobody owns, and what a watch lost."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from loguru import logger

from pipecat_operator import names
from pipecat_operator.advice import advised
from pipecat_operator.cache import Cache
from pipecat_operator.conditions import EndReason, Phase
from pipecat_operator.daily import Daily, DailyError, Room
from pipecat_operator.kube import BOTS, SESSIONS, ApiError, Kube, Object
from pipecat_operator.rooms import RoomDeleter

ORPHAN_AGE: Final = timedelta(minutes=10)
"""A younger room may be one whose session we don't see yet."""

RETRY_S: Final = 5.0
"""After a resync that failed."""


class SessionLister:
    """Every BotSession and Bot of the watched namespaces, from the API server."""

    def __init__(self, kube: Kube, namespaces: Iterable[str]) -> None:
        self._kube = kube
        self._namespaces: list[str | None] = list(namespaces) or [None]

    async def sessions(self) -> list[Object]:
        """Raises rather than answer a part."""
        found: list[Object] = []
        for namespace in self._namespaces:
            found += (await self._kube.list(SESSIONS, namespace))[0]
        return found

    async def refill(self, cache: Cache) -> None:
        """Make the cache whole again."""
        for namespace in self._namespaces:
            cache.replace_bots(namespace, (await self._kube.list(BOTS, namespace))[0])
            cache.replace_sessions(namespace, (await self._kube.list(SESSIONS, namespace))[0])


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


def orphans(rooms: Iterable[Room], sessions: Iterable[Object], installation: str, now: datetime) -> list[Room]:
    """The rooms of ours to delete: their session has ended, or is not there and the room is old. Pure."""
    ended = {s["metadata"]["uid"]: _has_ended(s) for s in sessions}
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
            sessions = await lister.sessions()
        except DailyError as error:
            why = advised(EndReason.ROOM_FAILED, str(error))
            logger.warning("No sweep now, the next is in {:.0f} s: {}", every_s, why)
        except ApiError as error:
            logger.warning("No sweep now, the next is in {:.0f} s: {}", every_s, error)
        else:
            for room in orphans(there, sessions, installation, clock()):
                rooms.delete(room.name, room.expires_at)
        await asyncio.sleep(every_s)
