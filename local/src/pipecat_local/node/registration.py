"""The Node object and its heartbeats, as kubelet keeps them."""

import asyncio
import platform
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from loguru import logger

from pipecat_local.assets import KUBERNETES
from pipecat_local.node.status import timestamp
from pipecat_operator.kube import LEASES, AlreadyExists, ApiError, Kube, NotFound, Object, Resource

NODES: Final = Resource("", "v1", "nodes")
LEASE_NAMESPACE: Final = "kube-node-lease"
LEASE_S: Final = 20
RENEW_S: Final = LEASE_S / 4
CHECK_S: Final = 10.0
REPORT: Final = timedelta(minutes=5)
"""kubelet's nodeStatusReportFrequency: an unchanged status is written that seldom."""

RETRY_S: Final = 1.0
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
HEALTHY: Final = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    "Ready": ("True", "KubeletReady", "the process node is posting ready status"),
}


class Registration:
    """Keeps the Node there and Ready."""

    def __init__(
        self,
        kube: Kube,
        name: str,
        capacity: dict[str, str],
        ip: str,
        port: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._name = name
        self._capacity = capacity
        self._ip = ip
        self._port = port
        self._clock = clock
        self._reported = datetime.min.replace(tzinfo=UTC)

    async def register(self) -> None:
        """Until the Node is there and Ready. Raises ApiError if the API server won't have it."""
        arch = ARCHITECTURES.get(platform.machine(), platform.machine())
        labels = {
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch,
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": arch,
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._name, "labels": labels}}
        try:
            await self._kube.create(NODES, "", node)
        except AlreadyExists:
            patch = [
                {"op": "add", "path": f"/metadata/labels/{key.replace('/', '~1')}", "value": value}
                for key, value in labels.items()
            ]
            await self._kube.json_patch(NODES, "", self._name, patch)
        await self._renew()
        await self._report(force=True)

    async def run(self) -> None:
        """Heartbeats until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(RENEW_S, self._renew))
            group.create_task(_every(CHECK_S, self._check))

    async def _check(self) -> None:
        try:
            await self._report(force=self._clock() - self._reported > REPORT)
        except NotFound:
            await self.register()

    async def _report(self, force: bool = False) -> None:
        node = await self._kube.get(NODES, "", self._name)
        old = {condition["type"]: condition for condition in node.get("status", {}).get("conditions") or []}
        if not force and all(old.get(kind, {}).get("status") == HEALTHY[kind][0] for kind in HEALTHY):
            return
        now = self._clock()
        patch = [{"op": "add", "path": "/status", "value": {**node.get("status", {}), **self._status(old, now)}}]
        await self._kube.json_patch(NODES, "", self._name, patch, sub="status")
        self._reported = now

    def _status(self, old: dict[str, Object], now: datetime) -> Object:
        def condition(kind: str) -> Object:
            status, reason, message = HEALTHY[kind]
            before = old.get(kind, {})
            since = before["lastTransitionTime"] if before.get("status") == status else timestamp(now)
            return {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": timestamp(now),
                "lastTransitionTime": since,
            }

        system = platform.uname()
        arch = ARCHITECTURES.get(system.machine, system.machine)
        return {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            # No Hostname: the API server would look it up before trying the address.
            "addresses": [{"type": "InternalIP", "address": self._ip}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "conditions": [condition(kind) for kind in HEALTHY],
            "nodeInfo": {
                "architecture": arch,
                "operatingSystem": "linux",
                "kernelVersion": system.release,
                "osImage": "this machine",
                "containerRuntimeVersion": "process://1",
                "kubeletVersion": f"v{KUBERNETES}",
                "kubeProxyVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        }

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": LEASE_S,
            "renewTime": self._clock().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        try:
            patch = [{"op": "replace", "path": "/spec", "value": spec}]
            await self._kube.json_patch(LEASES, LEASE_NAMESPACE, self._name, patch)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": LEASE_NAMESPACE},
                "spec": spec,
            }
            await self._kube.create(LEASES, LEASE_NAMESPACE, lease)


async def _every(seconds: float, action: Callable[[], Awaitable[None]]) -> None:
    while True:
        delay = seconds
        try:
            await action()
        except ApiError as error:
            logger.warning("Heartbeat: {}", error)
            delay = RETRY_S
        await asyncio.sleep(delay)
