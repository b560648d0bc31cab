"""Why bots do not start, as warning events tell it: listed once for all who ask at the same time.

The API server has no index of events: a list of those about one object costs it as much as a list of all. When a
thousand Jobs wait for a pod, a list for each of them would be what they wait for.
"""

import asyncio
from collections import defaultdict
from typing import Final

from loguru import logger

from pipecat_operator.kube import EVENTS, ApiError, Kube

PAUSE_S: Final = 1.0
"""Between two lists of the same events."""
SHARE: Final = 10.0
"""And so many times as long as the last one took."""
WAIT_S: Final = 5.0
"""Who asks waits no longer: a cause is worth a sentence, not a worker."""

Key = tuple[str, str]
"""Namespace, and the reason of the events."""
Found = dict[str, str]
"""The latest message about each object, by its UID."""


class Causes:
    """Warning events of the kinds that tell why a bot does not start."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._next: dict[Key, asyncio.Task[Found]] = {}
        """Lists that have not begun: they tell whoever asks now what there is."""
        self._turn: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._free_at: dict[Key, float] = {}

    async def about(self, uid: str, namespace: str, reason: str) -> str | None:
        """The latest message of an event of that reason about the object of that UID, as of now.

        None: there is none, or it could not be read in time.
        """
        key = namespace, reason
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._list(key))
        try:
            async with asyncio.timeout(WAIT_S):
                found = await asyncio.shield(self._next[key])
        except TimeoutError:
            return None
        return found.get(uid)

    async def _list(self, key: Key) -> Found:
        loop = asyncio.get_running_loop()
        async with self._turn[key]:
            await asyncio.sleep(max(0.0, self._free_at.get(key, 0.0) - loop.time()))
            del self._next[key]
            began = loop.time()
            found = await self._read(*key)
            self._free_at[key] = loop.time() + max(PAUSE_S, SHARE * (loop.time() - began))
        return found

    async def _read(self, namespace: str, reason: str) -> Found:
        latest: dict[str, tuple[str, str]] = {}
        try:
            async for page in self._kube.pages(EVENTS, namespace, {"fieldSelector": f"reason={reason}"}):
                for event in page.items:
                    uid = event["involvedObject"].get("uid") or ""
                    told = (event.get("lastTimestamp") or "", event.get("message") or reason)
                    latest[uid] = max(latest.get(uid, told), told)
        except ApiError as error:
            logger.warning("Why bots of {} do not start can't be read: {}", namespace, error)
        return {uid: message for uid, (_, message) in latest.items()}
