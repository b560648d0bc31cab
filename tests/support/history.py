"""What there ever was in a namespace, as the API server told it: the witness of the tests."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from pipecat_local.processes import until
from pipecat_operator import names
from pipecat_operator.kube import JOBS, PODS, SECRETS, SESSIONS, Kube, Object, Resource

_INACTIVITY_S: Final = 600.0
WAIT_S: Final = 60.0
WITNESSED: Final = (SESSIONS, JOBS, SECRETS, PODS)


class History:
    """Every BotSession, Job, Secret and Pod of one namespace, from the begin of the watch."""

    def __init__(self) -> None:
        self._now: dict[str, dict[str, Object]] = {resource.plural: {} for resource in WITNESSED}
        self._last: dict[str, Object] = {}
        self._made: dict[str, defaultdict[str, set[str]]] = {
            resource.plural: defaultdict(set) for resource in WITNESSED
        }

    def status(self, uid: str) -> dict[str, Any]:
        """The session's status, or the last one there was of it."""
        found: dict[str, Any] = self._last.get(uid, {}).get("status") or {}
        return found

    def messages(self) -> list[str]:
        """Of every session there ever was, the last that its status said."""
        return [self.status(uid).get("message") or "" for uid in self._last]

    def of(self, resource: Resource, uid: str) -> list[Object]:
        """What there is now that belongs to that session."""
        return [thing for thing in self._now[resource.plural].values() if _session_of(thing) == uid]

    def made(self, resource: Resource, uid: str) -> int:
        """How many there ever were that belong to that session."""
        return len(self._made[resource.plural][uid])

    def left(self) -> list[str]:
        """All there is now of any session."""
        return [
            f"{plural} {thing['metadata']['name']}"
            for plural, things in self._now.items()
            for thing in things.values()
            if plural == SESSIONS.plural or _session_of(thing)
        ]

    async def until(self, what: str, condition: Callable[[], Any], wait_s: float = WAIT_S) -> None:
        """Bounded.

        Raises:
            TimeoutError: with what was last seen.
        """

        async def holds() -> bool:
            return bool(condition())

        try:
            await until(what, holds, wait_s)
        except TimeoutError as error:
            for uid in self._last:
                error.add_note(f"{uid}: {self.status(uid).get('phase')} {self.status(uid).get('endReason')}")
            error.add_note(f"left: {self.left()}")
            raise

    def _see(self, resource: Resource, kind: str, thing: Object) -> None:
        uid = thing["metadata"]["uid"]
        if kind == "DELETED":
            self._now[resource.plural].pop(uid, None)
        else:
            self._now[resource.plural][uid] = thing
        if resource is SESSIONS:
            self._last[uid] = thing
        elif session := _session_of(thing):
            self._made[resource.plural][session].add(uid)

    async def _follow(self, kube: Kube, resource: Resource, namespace: str, version: str) -> None:
        while True:
            async for event in kube.watch(resource, namespace, {"resourceVersion": version}, _INACTIVITY_S):
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._see(resource, event["type"], event["object"])


def _session_of(thing: Object) -> str | None:
    label: str | None = (thing["metadata"].get("labels") or {}).get(names.LABEL_SESSION)
    return label


@contextlib.asynccontextmanager
async def history(kube: Kube, namespace: str) -> AsyncIterator[History]:
    """Of that namespace, from now on."""
    seen = History()
    versions = [(await kube.list(resource, namespace))[1] for resource in WITNESSED]
    async with asyncio.TaskGroup() as group:
        following = [
            group.create_task(seen._follow(kube, resource, namespace, version))
            for resource, version in zip(WITNESSED, versions, strict=True)
        ]
        yield seen
        for task in following:
            task.cancel()
