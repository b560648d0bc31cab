"""On a real node: from a BotSession, and from a bare Job of the same image, to the bot in its room. Image present."""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

from bench.report import Row
from bench.world import World
from pipecat_local import images
from pipecat_local.assets import HELM_BINARY, find
from pipecat_local.realnode import packages
from pipecat_local.realnode.cluster import real_node
from pipecat_operator import names
from pipecat_operator.api import Bot, BotSession, Limits
from pipecat_operator.daily import Daily
from pipecat_operator.job import job_manifest, room_expiry, secret_manifest
from pipecat_operator.kube import BOTS, JOBS, PODS, SECRETS, SESSIONS, Kube, Object
from pipecat_operator.metrics import Metrics
from pipecat_operator.observe import pod_view
from pipecat_operator.settings import load
from pipecat_operator.tokens import TokenRequest
from pipecat_operator.watch import Reflector
from support.installed import CALLS, STANDINS, Installed

COUNT = 20
ROOM_S = 60


class Pods:
    """When each pod's container ran and was ready, on this process's clock, by the name of its Job."""

    def __init__(self) -> None:
        self.running_at: dict[str, float] = {}
        self.ready_at: dict[str, float] = {}
        self.gone: set[str] = set()
        self._changed = asyncio.Event()

    def told(self, kind: str, pod: Object) -> None:
        """By the watch."""
        name = pod["metadata"].get("labels", {}).get("job-name", "")
        seen = pod_view(pod)
        if seen.phase == "Running":
            self.running_at.setdefault(name, time.monotonic())
        if seen.ready_at:
            self.ready_at.setdefault(name, time.monotonic())
        if kind == "DELETED":
            self.gone.add(name)
        self._changed.set()

    async def until_ready(self, job: str) -> None:
        """In the room."""
        await self._until(lambda: job in self.ready_at)

    async def until_gone(self, job: str) -> None:
        """The next one has the node to itself."""
        await self._until(lambda: job in self.gone)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(ROOM_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def run(world: World, size: float) -> list[Row]:
    """20 of each, one after the other, in turn."""
    packages.require_root()
    count = max(3, int(COUNT * size))
    archives = images.build((*images.IMAGES, *images.TEST_IMAGES))
    async with real_node(world.folder / "node", archives) as node, Kube(login=node.login) as api:
        installed = Installed(node, find((HELM_BINARY,))["helm"])
        await asyncio.to_thread(installed.set_up)
        pods = Pods()
        following = asyncio.create_task(Reflector(api, PODS, [CALLS], pods.told, lambda *_: None).run())
        daily = _daily(installed)
        sessions, jobs = [], []
        try:
            for _ in range(count + 1):
                sessions.append(await _session(api, pods))
                jobs.append(await _bare(api, daily, pods))
        finally:
            following.cancel()
            await daily.close()
    # The first ones read the image from the disk.
    rows = []
    for what, index in (("pod Running", 0), ("bot in the room", 1)):
        session, bare = (median(took[index] for took in kind[1:]) for kind in (sessions, jobs))
        rows.append(Row("room", f"created to {what}, median of {count}, floor: bare Job", session, "s", bare))
    return rows


async def _session(api: Kube, pods: Pods) -> tuple[float, float]:
    """Seconds until its pod runs, and until it is in the room."""
    spec = {"botRef": {"name": "assistant"}}
    body = {
        "apiVersion": names.API_VERSION,
        "kind": "BotSession",
        "metadata": {"generateName": "s-"},
        "spec": spec,
    }
    began = time.monotonic()
    meta = (await api.create(SESSIONS, CALLS, body))["metadata"]
    job = names.job_name(meta["uid"])
    await pods.until_ready(job)
    await api.delete(SESSIONS, CALLS, meta["name"], meta["uid"])
    await pods.until_gone(job)
    return pods.running_at[job] - began, pods.ready_at[job] - began


async def _bare(api: Kube, daily: Daily, pods: Pods) -> tuple[float, float]:
    """The same, with room and Secret made before, and by nobody's operator."""
    uid, now = str(uuid.uuid4()), datetime.now(UTC)
    limits, expires = Limits(), room_expiry(Limits(), now)
    room = await daily.make_room(f"bare-{uid}", {"exp": int(expires.timestamp())})
    tokens = [await daily.token(TokenRequest(room.name, expires, owner)) for owner in (True, False)]
    metadata = {"name": f"bare-{uid}", "namespace": CALLS, "uid": uid, "creationTimestamp": now}
    session = BotSession.model_validate({"metadata": metadata, "spec": {"botRef": {"name": "assistant"}}})
    bot = Bot.model_validate(await api.get(BOTS, CALLS, "assistant"))
    secret, job = secret_manifest(session, room.url, *tokens), job_manifest(session, bot, limits, expires, now)
    for made in (secret, job):
        # Their owner doesn't exist: the garbage collector would take them away.
        del made["metadata"]["ownerReferences"]
    await api.create(SECRETS, CALLS, secret)
    began = time.monotonic()
    stored = await api.create(JOBS, CALLS, job)
    name = job["metadata"]["name"]
    await pods.until_ready(name)
    await api.delete(JOBS, CALLS, name, stored["metadata"]["uid"])
    await pods.until_gone(name)
    return pods.running_at[name] - began, pods.ready_at[name] - began


def _daily(installed: Installed) -> Daily:
    """The stand-in, at its Service's address."""
    address = installed.get("service", "daily", STANDINS)["spec"]["clusterIP"]
    os.environ |= {"DAILY_API_KEY": installed.secrets[0], "DAILY_API_URL": f"http://{address}/v1"}
    return Daily(load(), Metrics())
