"""What became of sessions, seen from outside: when each phase was reached, and what is left of them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import until
from pipecat_local.stack import Services
from pipecat_operator import names
from pipecat_operator.conditions import Phase
from pipecat_operator.kube import JOBS, PODS, SECRETS, SESSIONS, Kube, Object

INACTIVITY_S: Final = 600.0


class Sessions:
    """The BotSessions of one namespace, watched."""

    def __init__(self) -> None:
        self._seen: dict[str, Object] = {}
        self._reached: dict[str, dict[str, float]] = {}
        self._changed = asyncio.Condition()

    async def until(self, name: str, *phases: Phase, timeout_s: float) -> Object:
        """The session once it is in one of those phases, or has ended.

        Raises:
            TimeoutError: saying where it stands instead.
        """

        def there() -> bool:
            phase = self._phase(name)
            return phase in phases or (phase is not None and phase.finished)

        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait_for(there)
            except TimeoutError:
                wanted = " or ".join(phases)
                status = self._seen.get(name, {}).get("status") or {"phase": "unknown"}
                stands = f"{status['phase']}. {status.get('message', '')}".strip()
                raise TimeoutError(f"{name} was not {wanted} within {timeout_s:.0f} s, but {stands}") from None
            return self._seen[name]

    def seconds(self, name: str, phase: Phase) -> float:
        """From the session's creation to that phase, both as the watch told them."""
        reached = self._reached[name]
        return reached[phase] - reached[""]

    def _phase(self, name: str) -> Phase | None:
        phase = self._seen.get(name, {}).get("status", {}).get("phase")
        return Phase(phase) if phase else None

    async def _follow(self, kube: Kube, namespace: str, version: str) -> None:
        async for event in kube.watch(SESSIONS, namespace, {"resourceVersion": version}, INACTIVITY_S):
            if event["type"] in ("ADDED", "MODIFIED"):
                await self._see(event["object"], time.monotonic())

    async def _see(self, session: Object, now: float) -> None:
        name = session["metadata"]["name"]
        async with self._changed:
            self._seen[name] = session
            reached = self._reached.setdefault(name, {"": now})
            if phase := self._phase(name):
                reached.setdefault(phase, now)
            self._changed.notify_all()


@contextlib.asynccontextmanager
async def sessions(cluster: Cluster, namespace: str) -> AsyncIterator[Sessions]:
    """Watch the sessions of that namespace from now on."""
    async with Kube(login=cluster.login) as kube:
        watched = Sessions()
        _, version = await kube.list(SESSIONS, namespace)
        following = asyncio.create_task(watched._follow(kube, namespace, version))
        try:
            yield watched
        finally:
            following.cancel()
            await asyncio.wait((following,))


async def leftovers(cluster: Cluster, services: Services, session: Object) -> list[str]:
    """What there still is of a session: its own object aside, its Job, pod, Secret, room and processes."""
    uid, namespace = session["metadata"]["uid"], session["metadata"]["namespace"]
    left = []
    async with Kube(login=cluster.login) as kube:
        for resource in (JOBS, PODS, SECRETS):
            found, _ = await kube.list(resource, namespace, {"labelSelector": f"{names.LABEL_SESSION}={uid}"})
            left += [f"{resource.plural} {item['metadata']['name']}" for item in found]
    if await room_exists(services, session):
        left.append(f"room {session['status']['room']['name']}")
    return left + [f"process {pid}" for pid in processes_of(uid)]


async def room_exists(services: Services, session: Object) -> bool:
    """Whether Daily still has its room."""
    url = f"{services.daily_api_url}/rooms/{session['status']['room']['name']}"
    headers = {"Authorization": f"Bearer {services.daily_api_key}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(url) as response:
        return response.status != 404


def processes_of(uid: str) -> list[int]:
    """Processes of this machine that were started for that session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"PIPECAT_SESSION_ID={uid}".encode() in variables:
            found.append(int(file.parent.name))
    return found


async def until_nothing_is_left(cluster: Cluster, services: Services, session: Object, timeout_s: float) -> None:
    """Bounded.

    Raises:
        TimeoutError: naming what is left.
    """
    left: list[str] = []

    async def nothing() -> bool:
        left[:] = await leftovers(cluster, services, session)
        return not left

    try:
        await until("nothing to be left", nothing, timeout_s, every_s=0.25)
    except TimeoutError:
        raise TimeoutError(f"after {timeout_s:.0f} s there still is: {', '.join(left)}") from None
