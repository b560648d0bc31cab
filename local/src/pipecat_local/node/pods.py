"""The pods bound to the node: one task for each."""

import asyncio
import shutil
from collections.abc import Set
from typing import Final

from loguru import logger

from pipecat_local.node.machine import Machine
from pipecat_local.node.process import kill_strays
from pipecat_local.node.runner import SHUTDOWN_GRACE_S, Pod
from pipecat_operator.kube import PODS, Object
from pipecat_operator.watch import Reflector

SHUTDOWN_S: Final = SHUTDOWN_GRACE_S + 5


class Pods:
    """Follows the API server and keeps one ``Pod`` running for each it names."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pods: dict[str, Pod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reflector = Reflector(
            machine.kube,
            PODS,
            [],
            self._apply,
            self._retain,
            field_selector=f"spec.nodeName={machine.host.node_name}",
        )

    def clear(self) -> None:
        """End whatever an earlier process of this node left, before any pod is looked at."""
        folder = self._machine.folder / "pods"
        if killed := kill_strays(folder):
            logger.warning("Killed what an earlier process of this node had left: {}", killed)
        shutil.rmtree(folder, ignore_errors=True)

    async def run(self) -> None:
        """Until cancelled; pods go on."""
        await self._reflector.run()

    async def shut_down(self) -> None:
        """End every pod, and tell so."""
        for pod in self._pods.values():
            pod.shut_down()
        if self._tasks:
            # Bounded: the API server may be gone already.
            await asyncio.wait(self._tasks.values(), timeout=SHUTDOWN_S)

    async def kill(self) -> None:
        """End every pod at once."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name."""
        return next((p for p in self._pods.values() if (p.namespace, p.name) == (namespace, name)), None)

    def _retain(self, _: str | None, uids: Set[str]) -> None:
        for uid in self._pods.keys() - uids:
            self._gone(uid)

    def _apply(self, kind: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._gone(uid)
        elif uid in self._pods:
            self._pods[uid].update(pod)
        else:
            self._pods[uid] = Pod(self._machine, pod)
            self._tasks[uid] = asyncio.create_task(self._pods[uid].run())
            self._tasks[uid].add_done_callback(lambda task: self._check(uid, task))

    def _gone(self, uid: str) -> None:
        if pod := self._pods.get(uid):
            pod.removed()
            if uid not in self._tasks:
                del self._pods[uid]

    def _check(self, uid: str, task: asyncio.Task[None]) -> None:
        del self._tasks[uid]
        # The object may stay under somebody's finalizer: it is forgotten when it has gone.
        if self._pods[uid].is_removed:
            del self._pods[uid]
        if not task.cancelled() and (error := task.exception()):
            logger.opt(exception=error).error("Pod {} is not looked after any more", uid)
