"""A namespace, a Daily domain, and operators whose every outside call passes a proxy."""

import asyncio
import contextlib
import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from pipecat_local.controlplane import Cluster, namespace_manifest
from pipecat_local.daily.calls import Calls
from pipecat_local.daily.rooms import Domain
from pipecat_local.daily.server import Server
from pipecat_local.daily.transcription import Told, Transcriber
from pipecat_local.processes import until
from pipecat_local.serving import listen
from pipecat_operator import names
from pipecat_operator.kube import (
    BOTS,
    LEASES,
    PODS,
    SESSIONS,
    ApiError,
    Conflict,
    Kube,
    NotFound,
    Object,
    Resource,
)
from pipecat_operator.sweep import ORPHAN_AGE
from support.forks import Operator, Zygote
from support.history import History, history
from support.operated import DAILY_KEY
from support.proxy import Ledger, Proxy, Side, kubeconfig, kubernetes_proxy
from support.rights import OPERATOR, Right, install

NAMESPACES: Final = Resource("", "v1", "namespaces")
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts")
QUICK: Final = {"ttlSecondsAfterFinished": 1, "terminationGracePeriodSeconds": 1}
"""Limits of a session whose life is short."""


class World:
    """One test's share of the cluster."""

    def __init__(self, kube: Kube, namespace: str, domain: Domain, seen: History, zygote: Zygote, folder: Path) -> None:
        self.kube = kube
        """The test's own way to the API server, past every proxy."""
        self.namespace = namespace
        self.domain = domain
        self.seen = seen
        self.zygote = zygote
        self.folder = folder

    async def bot(self, name: str = "bot", **spec: Any) -> None:
        """A Bot."""
        await self._create(BOTS, "Bot", name, {"image": "bot:1", "resources": {"requests": {"cpu": "1m"}}, **spec})

    async def session(self, name: str = "s", bot: str = "bot", **spec: Any) -> str:
        """A BotSession; answers its UID."""
        made = await self._create(SESSIONS, "BotSession", name, {"botRef": {"name": bot}, **spec})
        return str(made["metadata"]["uid"])

    async def stop(self, name: str = "s") -> None:
        """As the user does it."""
        await self.kube.json_patch(SESSIONS, self.namespace, name, [{"op": "add", "path": "/spec/stop", "value": True}])

    async def hang_up(self, uid: str, code: int = 0, said: dict[str, str] | None = None) -> None:
        """Have the session's bot end by itself."""
        (pod,) = self.seen.of(PODS, uid)
        annotations = {"pipecat.dev/fake-exit-code": str(code), "pipecat.dev/fake-message": json.dumps(said or {})}
        patch: list[Object] = [
            {"op": "add", "path": f"/metadata/annotations/{key.replace('/', '~1')}", "value": value}
            for key, value in annotations.items()
        ]
        await self.kube.json_patch(PODS, self.namespace, pod["metadata"]["name"], patch)

    async def delete_session(self, name: str = "s") -> None:
        """As the user does it."""
        await self.delete(SESSIONS, name)

    async def delete(self, resource: Resource, name: str) -> None:
        """As kubectl delete; gone already is as good."""
        with contextlib.suppress(NotFound):
            there = await self.kube.get(resource, self.namespace, name)
            await self.kube.delete(resource, self.namespace, name, there["metadata"]["uid"])

    async def free_lease(self) -> None:
        """As if the time had passed after which a dead holder's Lease is free."""
        while True:
            try:
                lease = await self.kube.get(LEASES, self.namespace, names.LEASE)
                lease["spec"]["holderIdentity"] = ""
                await self.kube.replace(LEASES, self.namespace, names.LEASE, lease)
            except Conflict:
                continue
            except NotFound:
                pass
            return

    def rooms(self) -> list[str]:
        """The rooms there are."""
        return [room.name for room in self.domain.rooms()]

    def rooms_made(self, uid: str) -> int:
        """How many were ever made for that session."""
        return sum(name.endswith(uid) for name in self.domain.made)

    def age_rooms(self) -> None:
        """As if the time had passed after which a room whose session is not there is an orphan."""
        for room in self.domain.rooms():
            room.created_at -= ORPHAN_AGE.total_seconds() + 1

    async def _create(self, resource: Resource, kind: str, name: str, spec: dict[str, Any]) -> Object:
        manifest = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.kube.create(resource, self.namespace, manifest)


@contextlib.asynccontextmanager
async def world(cluster: Cluster, pool: str, zygote: Zygote, folder: Path) -> AsyncIterator[World]:
    """A fresh namespace whose pods kwok plays, and a Daily without rate limits."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    async with contextlib.AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube(login=cluster.login))
        await make_namespace(kube, name, pool)
        stack.push_async_callback(kube._call, "DELETE", NAMESPACES.path(None, name))
        domain = Domain("local", DAILY_KEY, "", time.time)
        runner, domain.base_url = await listen(Server(domain, Calls(domain, _nobody_speaks), limits=False).app(), 0)
        stack.push_async_callback(runner.cleanup)
        seen = await stack.enter_async_context(history(kube, name))
        yield World(kube, name, domain, seen, zygote, folder)


async def make_namespace(kube: Kube, name: str, pool: str) -> None:
    """With its default service account."""
    await kube.create(NAMESPACES, "", namespace_manifest(name, pool))

    async def ready() -> bool:
        try:
            await kube.get(SERVICE_ACCOUNTS, name, "default")
        except NotFound:
            return False
        return True

    await until("the default service account", ready, 30)


class Instance:
    """One replica of the operator: restarted in place, as by kubelet, it keeps its proxies."""

    def __init__(self, world: World, cluster: Cluster, without: Right | None = None, **settings: str) -> None:
        """``without``: its service account has every right of the chart's save that."""
        self._world = world
        self._cluster = cluster
        self._without = without
        self.settings = settings
        self.ledger = Ledger()
        self.operators: list[Operator] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        namespace = self._world.namespace
        account = await asyncio.to_thread(
            install, self._cluster, OPERATOR, namespace, [namespace], without=self._without
        )
        self.kubernetes = await self._stack.enter_async_context(kubernetes_proxy(account.login(), self.ledger))
        daily = await self._stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        self._scraper = await self._stack.enter_async_context(aiohttp.ClientSession())
        self.daily = await self._stack.enter_async_context(
            Proxy(Side.DAILY, self._world.domain.base_url, daily, self.ledger)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for operator in self.operators:
            operator.kill()
            operator.close()
        await self._stack.aclose()
        # Whoever it was started again by: it ends for reasons that it knows, and says them.
        assert "Traceback" not in self.log(), self.log()

    @property
    def operator(self) -> Operator:
        """The one that was started last."""
        return self.operators[-1]

    def log(self) -> str:
        """What all of them logged."""
        return "".join(operator.log() for operator in self.operators)

    def story(self) -> str:
        """For who looks for the cause of a failure: its calls and its log."""
        calls = "\n".join(f"{call.at:%H:%M:%S.%f} {call.label(self._world.namespace)}" for call in self.ledger.calls)
        return f"{calls}\n{self.log()}"

    async def scrape(self, path: str = "metrics") -> str:
        """The metrics of the last one; or ``readyz``."""
        address = self.operator.log().partition("Listening on ")[2].partition("\n")[0]
        async with self._scraper.get(f"http://{address}/{path}") as answer:
            return await answer.text()

    async def is_frozen(self) -> bool:
        """Whether the last one is."""
        return self.operator.frozen

    async def start(self, freeze_before: tuple[str, str] | None = None) -> Operator:
        """One more process; the last one has ended."""
        namespace = self._world.namespace
        stem = self._world.folder / f"{namespace}-{id(self)}"
        config = stem.with_suffix(".kubeconfig")
        config.write_text(kubeconfig(self.kubernetes.url, namespace))
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "KUBECONFIG": str(config),
            "DAILY_API_KEY": DAILY_KEY,
            "DAILY_API_URL": f"{self.daily.url}/v1",
            "PIPECAT_OPERATOR_NAMESPACE": namespace,
            "PIPECAT_OPERATOR_WATCH_NAMESPACES": namespace,
            "PIPECAT_OPERATOR_HTTP_PORT": "0",
            **self.settings,
        }
        operator = await self._world.zygote.fork(env, stem.with_suffix(f".{len(self.operators)}.log"), freeze_before)
        self.operators.append(operator)
        return operator

    async def until_logged(self, text: str, wait_s: float = 40) -> None:
        """The last one's log says so. Bounded."""

        async def said() -> bool:
            return text in self.operator.log()

        try:
            await until(f"{text!r} in the operator's log", said, wait_s)
        except TimeoutError as error:
            error.add_note(self.operator.log())
            raise

    async def keep_alive(self, enough: asyncio.Event) -> None:
        """As kubelet: start it again whenever it has ended, until it was enough."""
        while not enough.is_set():
            if self.operator.ended:
                with contextlib.suppress(ApiError):
                    await self._world.free_lease()
                await self.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await enough.wait()


@contextlib.asynccontextmanager
async def kept_alive(instance: Instance) -> AsyncIterator[None]:
    """The operator runs, whatever becomes of its processes."""
    await instance.start()
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(instance.keep_alive(enough))
        try:
            yield
        finally:
            enough.set()


def _nobody_speaks(_: Told) -> Transcriber:
    raise NotImplementedError("no call is held in these tests")
