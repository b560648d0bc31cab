"""Why bots do not start, as warning events tell it: listed once for all who ask at the same time.

The API server has no index of events: a list of those about one object costs it as much as a list of all. When a
thousand Jobs wait for a pod, a list for each of them would be what they wait for.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from loguru import logger

from pipecat_operator.kube import EVENTS, ApiError, Kube, Refused, Unavailable

WAIT_S: Final = 2.0
"""Who asks holds a worker, so for no longer."""
PAUSE_S: Final = 1.0
"""At least, between two lists of the same events."""
PAUSE_MAX_S: Final = 10.0
SHARE: Final = 10.0
"""So many times as long as the last list took, between those two."""
KEPT_S: Final = 60.0
"""What was listed is forgotten when nobody has asked for so long."""

Found = dict[str, str]
"""The latest message about each object, by its UID."""


def pause_s(took_s: float) -> float:
    """Seconds from a list that took so long to the next. Pure."""
    return min(PAUSE_MAX_S, max(PAUSE_S, SHARE * took_s))


@dataclass(slots=True)
class _Listed:
    """The events of one reason in one namespace."""

    found: Found | None = None
    """By the last list that came."""
    free_at: float = 0.0
    next: asyncio.Task[Found] | None = None
    """A list that has not begun: it tells whoever asks now what there is."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Causes:
    """Warning events of the kinds that tell why a bot does not start."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._listed: dict[tuple[str, str], _Listed] = {}
        self._tasks: set[asyncio.Task[Found]] = set()

    async def about(self, uid: str, namespace: str, reason: str) -> str | None:
        """The latest message of an event of that reason about the object of that UID; None: there is none.

        As of now, or, when the next list is too far off or fails, as the last one told.

        Raises:
            Unavailable: nothing could be listed yet.
        """
        listed = self._listed.setdefault((namespace, reason), _Listed())
        if listed.next is None:
            listed.next = asyncio.create_task(self._list(namespace, reason, listed))
            self._tasks.add(listed.next)
            listed.next.add_done_callback(self._tasks.discard)
        if listed.found is not None and listed.free_at - asyncio.get_running_loop().time() > WAIT_S:
            return listed.found.get(uid)
        try:
            async with asyncio.timeout(WAIT_S):
                found = await asyncio.shield(listed.next)
        except Refused as refused:
            logger.warning("Why bots of {} do not start can't be read: {}", namespace, refused)
            return None
        except (ApiError, TimeoutError) as error:
            if listed.found is None:
                said = f"why bots of {namespace} do not start could not be read in time: {error}"
                raise Unavailable(0, type(error).__name__, said) from error
            found = listed.found
        return found.get(uid)

    async def close(self) -> None:
        """End every list that is on its way, or to come."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _list(self, namespace: str, reason: str, listed: _Listed) -> Found:
        loop = asyncio.get_running_loop()
        async with listed.turn:
            await asyncio.sleep(max(0.0, listed.free_at - loop.time()))
            listed.next = None
            began = loop.time()
            listed.free_at = began + PAUSE_S
            listed.found = await self._read(namespace, reason)
            listed.free_at = loop.time() + pause_s(loop.time() - began)
            loop.call_later(KEPT_S, self._forget, namespace, reason, listed.free_at)
            return listed.found

    def _forget(self, namespace: str, reason: str, free_at: float) -> None:
        listed = self._listed.get((namespace, reason))
        if listed and listed.free_at == free_at and listed.next is None and not listed.turn.locked():
            del self._listed[namespace, reason]

    async def _read(self, namespace: str, reason: str) -> Found:
        latest: dict[str, tuple[str, str]] = {}
        async for page in self._kube.pages(EVENTS, namespace, {"fieldSelector": f"reason={reason}"}):
            for event in page.items:
                uid, at = event["involvedObject"].get("uid") or "", event.get("lastTimestamp") or ""
                if uid not in latest or at >= latest[uid][0]:
                    latest[uid] = at, event.get("message") or reason
        return {uid: message for uid, (_, message) in latest.items()}
