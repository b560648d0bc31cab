"""Deleting rooms in the background, within Daily's delete limit, so that no session's end waits for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final

from loguru import logger

from pipecat_operator.daily import Daily, DailyError, DailyRefused

RETRY_S: Final = 5.0


class RoomDeleter:
    """A queue of rooms to delete. One that expires before its turn is left to expire."""

    def __init__(self, daily: Daily, clock: Callable[[], datetime]) -> None:
        self._daily = daily
        self._clock = clock
        self._waiting: OrderedDict[str, datetime | None] = OrderedDict()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def delete(self, room: str, expires_at: datetime | None) -> None:
        """Delete that room when its turn comes; once is enough, unless its deletion is on its way."""
        self._waiting.setdefault(room, expires_at)
        self._some.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._some.wait()
            if not self._waiting:
                self._some.clear()
                continue
            # Out of the queue before it is sent: a room made meanwhile may be asked for anew.
            room, expires_at = self._waiting.popitem(last=False)
            if expires_at is None or expires_at > self._clock():
                await self._delete(room, expires_at)

    async def _delete(self, room: str, expires_at: datetime | None) -> None:
        try:
            await self._daily.delete_room(room)
            logger.debug("Room {} deleted", room)
        except DailyRefused as refused:
            logger.warning("Room {} is left to expire: {}", room, refused)
        except DailyError as error:
            logger.warning("Room {} will be deleted later: {}", room, error)
            self.delete(room, expires_at)
            await asyncio.sleep(error.retry_after or RETRY_S)
