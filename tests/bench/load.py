"""The load: sessions made, followed and ended, by a client that costs little itself."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from pipecat_local.processes import until
from pipecat_operator import names, status
from pipecat_operator.api import Bot, BotSession, Limits, RoomStatus
from pipecat_operator.job import job_manifest, room_expiry, secret_manifest
from pipecat_operator.kube import JOBS, PODS, SECRETS, SESSIONS, Kube, Object, Resource
from pipecat_operator.watch import Reflector
from support.words import USER_LEFT

CONCURRENCY = 50
BOT = "bot"
CLEAN_S = 900.0
POLL_S = 2
"""Seldom: whoever is measured pays for each look."""
TOKEN = "t" * 300
"""As long as a token of Daily's."""

Maker = Callable[[Kube, str], Awaitable[str]]
"""Makes one session (or what stands for one) in a namespace; answers the UID that its pod is labelled with."""


def session_object(ttl_s: int = 600) -> Object:
    """A BotSession with a body as callers send one."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": "BotSession",
        "metadata": {"generateName": "s-"},
        "spec": {
            "botRef": {"name": BOT},
            "body": {"customer": "4711", "language": "en", "greeting": "Hello, how can I help you today?"},
            "user": {"name": "Ada", "id": "7"},
            # A slow machine must not end them before their time.
            "session": {"ttlSecondsAfterFinished": ttl_s, "startTimeoutSeconds": 3600, "maxDurationSeconds": 86400},
        },
    }


async def make_session(api: Kube, namespace: str) -> str:
    """What a user does: one BotSession; the rest is the operator's."""
    made = await api.create(SESSIONS, namespace, session_object())
    return str(made["metadata"]["uid"])


async def make_all_writes(api: Kube, namespace: str) -> str:
    """The floor: what the operator writes until a pod runs, by a client that watches nothing and calls nobody."""
    made = BotSession.model_validate(await api.create(SESSIONS, namespace, session_object()))
    now = datetime.now(UTC)
    uid, expires_at = made.metadata.uid, room_expiry(Limits(), now)
    room = RoomStatus(name=f"bench-{uid}", url=f"https://bench.daily.co/bench-{uid}", expires_at=expires_at)
    await api.create(SECRETS, namespace, secret_manifest(made, room.url, TOKEN, TOKEN))
    await api.create(JOBS, namespace, job_manifest(made, _bot(namespace), Limits(), expires_at, now))
    value = status.starting(made, room, now).model_dump(mode="json", by_alias=True, exclude_none=True)
    patch: list[Object] = [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": value},
    ]
    await api.json_patch(SESSIONS, namespace, made.metadata.name, patch, sub="status")
    return uid


async def make_job(api: Kube, namespace: str) -> str:
    """The floor below: the Job alone, of nobody."""
    now = datetime.now(UTC)
    uid = str(uuid.uuid4())
    metadata = {"name": f"bare-{uid}", "namespace": namespace, "uid": uid, "creationTimestamp": now}
    session = BotSession.model_validate(session_object() | {"metadata": metadata})
    manifest = job_manifest(session, _bot(namespace), Limits(), room_expiry(Limits(), now), now)
    # Its owner doesn't exist: the garbage collector would take it away.
    del manifest["metadata"]["ownerReferences"]
    await api.create(JOBS, namespace, manifest)
    return uid


def bot_spec() -> Object:
    """The Bot of every session here."""
    return {"image": "pipecat-bot:dev", "resources": {"requests": {"cpu": "1m"}}}


def _bot(namespace: str) -> Bot:
    metadata = {"name": BOT, "namespace": namespace, "uid": "b", "creationTimestamp": datetime.now(UTC)}
    return Bot.model_validate({"metadata": metadata, "spec": bot_spec()})


class Pods:
    """The pods that run, by session, and since when on this process's clock."""

    def __init__(self) -> None:
        self.running_at: dict[str, float] = {}
        self.names: dict[str, str] = {}
        self._changed = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def of(cls, api: Kube, namespace: str):
        """Follow them."""
        pods = cls()
        selected = "status.phase=Running"
        reflector = Reflector(api, PODS, [namespace], pods._told, lambda *_: None, field_selector=selected)
        following = asyncio.create_task(reflector.run())
        try:
            await reflector.synced.wait()
            yield pods
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def until(self, count: int, timeout_s: float) -> None:
        """Until so many ran."""
        async with asyncio.timeout(timeout_s):
            while len(self.running_at) < count:
                self._changed.clear()
                await self._changed.wait()

    def _told(self, kind: str, pod: Object) -> None:
        uid = pod["metadata"]["labels"][names.LABEL_SESSION]
        if kind != "DELETED" and uid not in self.running_at:
            self.running_at[uid] = time.monotonic()
            self.names[uid] = pod["metadata"]["name"]
            self._changed.set()


async def hang_up(api: Kube, namespace: str, pod: str) -> None:
    """The user leaves: the pod ends as kwok is told to end it."""
    patch: list[Object] = [
        {"op": "add", "path": "/metadata/annotations/pipecat.dev~1fake-message", "value": json.dumps(USER_LEFT)},
        {"op": "add", "path": "/metadata/annotations/pipecat.dev~1fake-exit-code", "value": "0"},
    ]
    await api.json_patch(PODS, namespace, pod, patch)


async def remove_all(api: Kube, namespace: str, *resources: Resource) -> None:
    """Delete all there are: thousands take kubectl longer than it is given."""
    for resource in resources:
        async for page in api.pages(resource, namespace):
            await at_once([_delete(api, resource, item["metadata"]) for item in page.items])


async def _delete(api: Kube, resource: Resource, metadata: Object) -> None:
    await api.delete(resource, metadata["namespace"], metadata["name"], metadata["uid"])


async def until_gone(api: Kube, namespace: str, *resources: Resource) -> None:
    """Until there is nothing of these kinds."""

    async def gone() -> bool:
        for resource in resources:
            # One is enough to know: a list of ten thousand takes minutes.
            if (await anext(api.pages(resource, namespace, size=1))).items:
                return False
        return True

    kinds = ", ".join(resource.plural for resource in resources)
    await until(f"{kinds} to go", gone, CLEAN_S, POLL_S)


async def at_once(jobs: list[Coroutine[Any, Any, Any]], concurrency: int = CONCURRENCY) -> list[Any]:
    """All of them, so many at a time; answers what they answered."""
    slots = asyncio.Semaphore(concurrency)

    async def one(job: Coroutine[Any, Any, Any]) -> Any:
        async with slots:
            return await job

    return await asyncio.gather(*(one(job) for job in jobs))


async def steadily(jobs: list[Coroutine[Any, Any, Any]], per_second: float) -> list[Any]:
    """Each begun at its time, done or not the one before."""
    began = time.monotonic()
    tasks = []
    for number, job in enumerate(jobs):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        tasks.append(asyncio.create_task(job))
    return await asyncio.gather(*tasks)
