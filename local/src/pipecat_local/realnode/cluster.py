"""A cluster of one real node: a control plane, and beside it containerd, kubelet, kube-proxy and a name server."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from pipecat_local.assets import MODULES, NODE, Say, find, say_to_stderr
from pipecat_local.controlplane import Cluster, ControlPlane, Site
from pipecat_local.processes import ComponentFailed, until
from pipecat_local.realnode import cgroups, kubelet, network, packages
from pipecat_local.realnode.containerd import Containerd
from pipecat_local.realnode.namespaces import Inside, Namespaces
from pipecat_local.realnode.slots import Slot, claimed, clear

MANIFESTS: Final = MODULES / "realnode" / "manifests"
READY_S: Final = 60.0
ASK: Final = aiohttp.ClientTimeout(total=2)
PROXY_USER: Final = "system:kube-proxy"
DNS_USER: Final = "system:coredns"


class RealNode(Cluster):
    """Its processes are children of this one, or end with them."""

    def __init__(self, folder: Path, slot: Slot, say: Say) -> None:
        super().__init__(folder)
        self._folder = folder / "node"
        self.name = slot.name
        """Of the node."""
        self.host_address = str(slot.host_address)
        """This machine's, for pods: they reach what listens there."""
        self.pod_logs = self._folder / "pods"
        """What containers printed, kept after them."""
        self._slot = slot
        self._say = say
        self._resolv_conf = self._folder / "resolv.conf"
        self._namespaces = Namespaces(slot.name, self._folder, self._resolv_conf)
        self._containerd = Containerd(self._namespaces, self._folder, self._folder / "cni")
        self._plane: ControlPlane | None = None
        self._kubelet, self._proxy, self._dns = (
            Inside(name, self._folder / f"{name}.log") for name in ("kubelet", "kube-proxy", "coredns")
        )
        self._kubelet_command: list[str | Path] = []
        self._kubelet_wanted = False

    async def start(self, images: Sequence[Path]) -> None:
        """Until pods run, find names, and reach Services.

        Raises:
            MissingBinary: a binary can be had from nowhere.
            ComponentFailed: with the failing component's last log lines.
        """
        binaries = await asyncio.to_thread(find, NODE, self._say)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._resolv_conf.write_text(f"nameserver {self._slot.address}\n")
        try:
            await self._start(binaries, images)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """All at once, and soon: nothing of it is kept but its logs."""
        await self._namespaces.stop()
        inside = (self._containerd.component, self._kubelet, self._proxy, self._dns)
        await asyncio.gather(*(component.stop() for component in inside))
        if self._plane:
            await self._plane.stop(grace_s=0)
        await asyncio.to_thread(clear, self._slot)

    def check(self) -> None:
        """Raises ComponentFailed when a process has ended that was not stopped."""
        self._namespaces.check()
        if self._plane:
            self._plane.check()
        for component in (self._containerd.component, self._proxy, self._dns):
            component.check()
        if self._kubelet_wanted:
            self._kubelet.check()

    async def load(self, *images: Path) -> None:
        """Give the node the images of these archives: absolute paths.

        Raises:
            ComponentFailed: with what was wrong.
        """
        for archive in images:
            await self._containerd.load(archive)

    @property
    def enter(self) -> tuple[str, ...]:
        """Put before a command: runs it beside the kubelet."""
        return self._namespaces.enter

    async def start_kubelet(self) -> None:
        """Until it works and the node is Ready."""
        await self._kubelet.start(self._kubelet_command)
        self._kubelet_wanted = True
        await self._until("the kubelet to work", self._answers(kubelet.HEALTH_PORT, "healthz"))
        await self._until("the node to be Ready", self._ready)

    async def stop_kubelet(self) -> None:
        """What it has started runs on. For good: the node is lost."""
        self._kubelet_wanted = False
        await self._kubelet.stop()

    async def _start(self, binaries: dict[str, Path], images: Sequence[Path]) -> None:
        cgroups.make(self._slot.name)
        await self._namespaces.start()
        await network.connect(self._slot, self._namespaces)
        network.write_cni(self._slot, self._folder / "cni")
        kubelet_user = f"system:node:{self.name}"
        site = Site(
            str(self._slot.address),
            self._slot.services,
            self._namespaces.enter_network,
            {kubelet_user: "system:nodes", PROXY_USER: "", DNS_USER: ""},
        )
        self._plane = plane = ControlPlane(self.folder, [MANIFESTS], self._say, site)
        await _together(plane.start(), self._start_containerd(binaries["pause"], images))
        enter = self._namespaces.enter
        settings = kubelet.write_settings(
            self._slot, self.folder / "pki", self._resolv_conf, self.pod_logs, self._folder / "kubelet.json"
        )
        self._kubelet_command = [
            *enter,
            binaries["kubelet"],
            f"--config={settings}",
            f"--kubeconfig={plane.kubeconfig_of(kubelet_user)}",
            f"--hostname-override={self.name}",
            f"--node-ip={self._slot.address}",
        ]
        proxy = network.write_kube_proxy(self._slot, plane.kubeconfig_of(PROXY_USER), self._folder / "kube-proxy.json")
        corefile = network.write_coredns(self._slot, plane.kubeconfig_of(DNS_USER), self._folder / "Corefile")
        await self._proxy.start([*enter, binaries["kube-proxy"], f"--config={proxy}"])
        await self._dns.start([*enter, binaries["coredns"], "-conf", corefile])
        await self.start_kubelet()
        await self._until("Services to be reachable", self._answers(network.PROXY_HEALTH_PORT, "healthz"))
        await self._until("names to be known", self._answers(network.DNS_HEALTH_PORT, "ready"))

    async def _start_containerd(self, pause: Path, images: Sequence[Path]) -> None:
        await self._containerd.start(pause)
        await self.load(*images)

    async def _until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        async def checked() -> bool:
            self.check()
            return await condition()

        try:
            await until(what, checked, READY_S)
        except TimeoutError as error:
            raise ComponentFailed(self._kubelet.explain(str(error))) from error

    def _answers(self, port: int, path: str) -> Callable[[], Awaitable[bool]]:
        url = f"http://{self._slot.address}:{port}/{path}"

        async def asked() -> bool:
            try:
                async with aiohttp.ClientSession(timeout=ASK) as http, http.get(url) as response:
                    return response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                return False

        return asked

    async def _ready(self) -> bool:
        """Pods can be scheduled there: it says so, and the control plane has taken its taints away."""
        listed = json.loads(await asyncio.to_thread(self.kubectl, "get", "nodes", "--output=json"))
        return any(
            condition["type"] == "Ready" and condition["status"] == "True" and not node["spec"].get("taints")
            for node in listed["items"]
            for condition in node["status"].get("conditions", [])
        )


@asynccontextmanager
async def real_node(folder: Path, images: Sequence[Path] = (), say: Say = say_to_stderr) -> AsyncIterator[RealNode]:
    """A cluster of one node, ready, with the images of those archives; its files are in ``folder``, an absolute path.

    Raises:
        NotHere: this machine lacks what it takes.
        MissingBinary: a binary can be had from nowhere.
        ComponentFailed: with the failing component's last log lines.
    """
    packages.require_root()
    await asyncio.to_thread(packages.install, packages.NODE, say)
    with claimed() as slot:
        node = RealNode(folder / slot.name, slot, say)
        await node.start(images)
        try:
            yield node
        finally:
            await node.stop()


async def _together(*starts: Coroutine[Any, Any, None]) -> None:
    """Both at once; when one fails the other doesn't go on."""
    tasks = [asyncio.create_task(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
