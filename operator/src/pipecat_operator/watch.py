"""List-and-watch of one resource, for ever: what client-go calls a reflector."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence, Set
from typing import Final

from loguru import logger

from pipecat_operator.kube import ApiError, Expired, Kube, Object, Refused, Resource, where

SERVER_TIMEOUT_S: Final = 600
INACTIVITY_S: Final = 90.0
"""The API server sends a bookmark about every minute, so a longer silence is a dead connection."""

BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 10.0
STEADY_S: Final = 5.0
"""A watch that lasted as long was of use, though nothing happened."""


class Reflector:
    """Feeds one resource's objects to two callbacks.

    ``apply`` gets each object that was listed, as ``MODIFIED``, and each watch event: ``ADDED``, ``MODIFIED`` or
    ``DELETED`` and the object. ``retain`` gets the UIDs of every object there is, after each list: the others are gone.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        namespaces: Sequence[str],
        apply: Callable[[str, Object], None],
        retain: Callable[[str | None, Set[str]], None],
        label_selector: str | None = None,
        field_selector: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``namespaces``: those to watch; none means all. ``retain`` is told whose it got."""
        self._kube = kube
        self._resource = resource
        self._namespaces: list[str | None] = list(namespaces) or [None]
        self._apply = apply
        self._retain = retain
        self._clock = clock
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._params = {key: value for key, value in selectors.items() if value}
        self._unsynced = set(self._namespaces)
        self._listed = False
        self.synced = asyncio.Event()
        """Set once everything was listed, save namespaces that we may not list: one that is deleted took our rights."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for namespace in self._namespaces:
                group.create_task(self._follow(namespace))

    async def _follow(self, namespace: str | None) -> None:
        version, fruitless = "", 0
        while True:
            failed: ApiError | None = None
            began = math.inf
            try:
                if not version:
                    version = await self._list(namespace)
                began = self._clock()
                async for seen in self._watch(namespace, version):
                    version, fruitless = seen, min(fruitless, 1)
            except ApiError as error:
                # What was missed while away comes with a list.
                version, failed = "", error
            steady = self._clock() - began >= STEADY_S
            pause = pause_s(0 if steady else fruitless, failed)
            fruitless = 0 if steady else fruitless + 1
            if isinstance(failed, Refused):
                self._settle(namespace)
                logger.warning("{} can't be listed and watched: {}", where(self._resource, namespace), failed)
            elif failed and not isinstance(failed, Expired):
                logger.warning("Watch of {} will begin again in {:.1f} s: {}", self._resource.plural, pause, failed)
            # Jitter: the API server's restart breaks everybody's watches at once.
            pause *= random.uniform(0.5, 1.0)  # noqa: S311
            await asyncio.sleep(max(pause, (failed and failed.retry_after) or 0.0))

    async def _list(self, namespace: str | None) -> str:
        uids = set()
        # Never all of them at once: ten thousand whole objects take hundreds of megabytes.
        async for page in self._kube.pages(self._resource, namespace, self._params):
            for item in page.items:
                uids.add(item["metadata"]["uid"])
                self._apply("MODIFIED", item)
        self._retain(namespace, uids)
        self._listed = True
        self._settle(namespace)
        return page.version

    def _settle(self, namespace: str | None) -> None:
        self._unsynced.discard(namespace)
        if self._listed and not self._unsynced:
            self.synced.set()

    async def _watch(self, namespace: str | None, version: str) -> AsyncIterator[str]:
        """The version to go on from, after each event."""
        params = {**self._params, "resourceVersion": version, "timeoutSeconds": str(SERVER_TIMEOUT_S)}
        async for event in self._kube.watch(self._resource, namespace, params, INACTIVITY_S):
            if event["type"] != "BOOKMARK":
                self._apply(event["type"], event["object"])
            yield event["object"]["metadata"]["resourceVersion"]


def pause_s(fruitless: int, failed: ApiError | None) -> float:
    """Seconds until the next try, after so many watches in a row that were of no use and then this one. Pure.

    None after a first one that ended or expired: both are a watch's usual end.
    """
    failures = fruitless if failed is None or isinstance(failed, Expired) else fruitless + 1
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16)) if failures else 0.0
