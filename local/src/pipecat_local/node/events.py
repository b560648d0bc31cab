"""Events, as kubelet reports them: the same one counted up, not repeated, and a flood held back."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from loguru import logger

from pipecat_local.node.status import timestamp
from pipecat_operator.kube import EVENTS, ApiError, Kube, Object

BURST: Final = 25
REFILL_S: Final = 300.0
"""client-go's spam filter: 25 events about one object, then one in five minutes."""

QUEUE: Final = 1000


class Recorder:
    """Writes Events in the background; losing one holds nothing up."""

    def __init__(self, kube: Kube, node_name: str, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._node_name = node_name
        self._clock = clock
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE)
        self._known: dict[tuple[str, ...], Object] = {}
        self._budget: dict[str, tuple[float, datetime]] = {}

    def pod(self, pod: Object, kind: str, reason: str, message: str, container: str | None = None) -> None:
        """About a pod, or one of its containers. ``kind``: Normal or Warning."""
        metadata = pod["metadata"]
        about = {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        if container:
            about["fieldPath"] = f"spec.containers{{{container}}}"
        if not self._within_budget(metadata["uid"]) or self._queue.full():
            return
        self._queue.put_nowait({"involvedObject": about, "type": kind, "reason": reason, "message": message})

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._budget.pop(uid, None)
        self._known = {key: event for key, event in self._known.items() if key[0] != uid}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except ApiError as error:
                logger.debug("Event {} was not written: {}", event["reason"], error)

    def _within_budget(self, uid: str) -> bool:
        now = self._clock()
        tokens, at = self._budget.get(uid, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - at).total_seconds() / REFILL_S)
        self._budget[uid] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    async def _write(self, event: Object) -> None:
        about = event["involvedObject"]
        namespace, now = about["namespace"], timestamp(self._clock())
        key = (about["uid"], about.get("fieldPath", ""), event["type"], event["reason"], event["message"])
        if known := self._known.get(key):
            patch: list[dict[str, Any]] = [
                {"op": "replace", "path": "/count", "value": known["count"] + 1},
                {"op": "replace", "path": "/lastTimestamp", "value": now},
            ]
            self._known[key] = await self._kube.json_patch(EVENTS, namespace, known["metadata"]["name"], patch)
            return
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            **event,
            "source": {"component": "kubelet", "host": self._node_name},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._known[key] = await self._kube.create(EVENTS, namespace, body)
