"""The one writer of a pod's status: what is known, told to the API server as often as it changes and no oftener."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from loguru import logger

from pipecat_local.node import status
from pipecat_local.node.status import Known
from pipecat_operator.kube import PODS, ApiError, Conflict, Kube, NotFound, Object, OtherObject, Refused, Unavailable

BACKOFF_S: Final = 0.1
BACKOFF_MAX_S: Final = 5.0


class Writer:
    """Holds the newest object seen of one pod, and what its status should say."""

    def __init__(self, kube: Kube, clock: Callable[[], datetime], pod: Object, known: Known) -> None:
        self.pod = pod
        self.known = known
        self.removed = asyncio.Event()
        """Set once the object is gone from the API server: nobody will read a status any more."""
        self._kube = kube
        self._clock = clock
        metadata = pod["metadata"]
        self._namespace, self._name, self._uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self._dirty = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()

    def seen(self, pod: Object) -> bool:
        """Take the object if it is newer than the one at hand."""
        newer = int(pod["metadata"]["resourceVersion"]) > int(self.pod["metadata"]["resourceVersion"])
        if newer:
            self.pod = pod
        return newer

    def note(self, known: Known) -> None:
        """To be told with the next change."""
        self.known = known

    def tell(self, known: Known) -> None:
        """To be told now, if it is any news."""
        if known != self.known:
            self.known = known
            self._written.clear()
            self._dirty.set()

    def set(self, container: str, **changes: object) -> None:
        """Tell what changed about one container."""
        containers = self.known.containers
        changed = tuple(replace(c, **changes) if c.name == container else c for c in containers)  # type: ignore[arg-type]
        self.tell(replace(self.known, containers=changed))

    async def told(self) -> None:
        """Until the API server has all that is known, or nobody is there to be told."""
        await self._written.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._write()
            if not self._dirty.is_set():
                self._written.set()

    async def delete(self) -> None:
        """Let go of the object, now that its status is final."""
        delay = BACKOFF_S
        while not self.removed.is_set():
            try:
                await self._kube.delete(PODS, self._namespace, self._name, self._uid, grace_s=0)
                return
            except Unavailable as error:
                delay = await self._wait(delay, error)

    async def _write(self) -> None:
        delay = BACKOFF_S
        while not self.removed.is_set():
            try:
                await self._write_once()
                return
            except NotFound:
                self.removed.set()
            except Refused as error:
                logger.error("The API server refused the status of pod {}/{}: {}", self._namespace, self._name, error)
                return
            except ApiError as error:
                delay = await self._wait(delay, error)

    async def _write_once(self) -> None:
        wanted = status.pod_status(self.pod, self.known, self._clock())
        if wanted == self.pod.get("status"):
            return
        version = self.pod["metadata"]["resourceVersion"]
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": self._uid},
            # Others write conditions too (eviction, taints): never over something not seen.
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/status", "value": wanted},
        ]
        try:
            self.seen(await self._kube.json_patch(PODS, self._namespace, self._name, patch, sub="status"))
        except (Conflict, OtherObject):
            fresh = await self._kube.get(PODS, self._namespace, self._name)
            if fresh["metadata"]["uid"] != self._uid:
                self.removed.set()
                return
            self.seen(fresh)
            self._dirty.set()

    async def _wait(self, delay: float, error: ApiError) -> float:
        logger.warning("Pod {}/{} will be written again in {:.1f} s: {}", self._namespace, self._name, delay, error)
        await asyncio.sleep(delay)
        return min(BACKOFF_MAX_S, delay * 2)
