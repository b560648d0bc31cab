"""Events, as kubelet reports them: the same one counted up, not repeated, and a flood held back."""

import asyncio
import contextlib
import uuid
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from loguru import logger

from pipecat_local.node.status import timestamp
from pipecat_operator.kube import EVENTS, ApiError, Kube, NotFound, Object

BURST: Final = 25
REFILL_S: Final = 300.0
"""client-go's spam filter: 25 events about one object, then one in five minutes."""

QUEUE: Final = 1000
REMEMBERED: Final = 4096
"""client-go's too: how many events, and pods, are known."""

K = TypeVar("K")
V = TypeVar("V")


class Budget:
    """How many events about one object may still be written."""

    def __init__(self, now: datetime) -> None:
        self._left = float(BURST)
        self._at = now

    def spend(self, now: datetime) -> bool:
        """Whether there is one to spend; it is spent."""
        earned = (now - self._at).total_seconds() / REFILL_S
        self._left = min(float(BURST), self._left + earned)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Recorder:
    """Writes Events in the background; losing one holds nothing up."""

    def __init__(self, kube: Kube, node_name: str, clock: Callable[[], datetime]) -> None:
        self._kube = kube
        self._node_name = node_name
        self._clock = clock
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE)
        self._known: OrderedDict[tuple[str, ...], Object] = OrderedDict()
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

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
        budget = self._budgets.pop(metadata["uid"], None) or Budget(self._clock())
        _remember(self._budgets, metadata["uid"], budget)
        if not budget.spend(self._clock()) or self._queue.full():
            return
        self._queue.put_nowait({"involvedObject": about, "type": kind, "reason": reason, "message": message})

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._write(event)
            except ApiError as error:
                logger.debug("Event {} was not written: {}", event["reason"], error)

    async def _write(self, event: Object) -> None:
        about = event["involvedObject"]
        namespace, now = about["namespace"], timestamp(self._clock())
        key = (about["uid"], about.get("fieldPath", ""), event["type"], event["reason"], event["message"])
        if known := self._known.pop(key, None):
            patch: list[dict[str, Any]] = [
                {"op": "replace", "path": "/count", "value": known["count"] + 1},
                {"op": "replace", "path": "/lastTimestamp", "value": now},
            ]
            with contextlib.suppress(NotFound):
                counted = await self._kube.json_patch(EVENTS, namespace, known["metadata"]["name"], patch)
                _remember(self._known, key, counted)
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
        _remember(self._known, key, await self._kube.create(EVENTS, namespace, body))


def _remember(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    if len(cache) > REMEMBERED:
        cache.popitem(last=False)
