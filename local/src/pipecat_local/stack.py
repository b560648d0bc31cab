"""Everything on this machine: control plane, process node, stand-ins, operator, gateway; a process each.

``python -m pipecat_local.stack --directory D`` runs it until SIGTERM.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from pipecat_local.assets import MODULES, MissingBinary, Say, say_to_stderr
from pipecat_local.controlplane import Cluster, ControlPlane, free_ports
from pipecat_local.processes import Component, ComponentFailed, until
from pipecat_local.serving import PYTHONPATH

ROOT: Final = MODULES.parent
"""The checkout."""
MANIFESTS: Final = (ROOT / "crds", MODULES / "manifests")
NAMESPACE: Final = "pipecat-system"
IMAGE: Final = "pipecat-bot:dev"
"""The image that the process node runs from this checkout."""
START_S: Final = 60.0

_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")
"""All that children get of our environment: a shell's keys must not reach a stand-in run."""


def environment(**own: str) -> dict[str, str]:
    """The environment of a child."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | own


@dataclass(frozen=True, slots=True)
class Services:
    """Where Daily is, and what a bot needs to reach the others."""

    daily_api_key: str = field(repr=False)
    daily_api_url: str
    bot_keys: Mapping[str, str] = field(repr=False)
    """The data of the Secret that a Bot takes its environment from."""
    real: bool = False


class Stack:
    """One of everything, in one folder; an async context manager."""

    def __init__(
        self,
        folder: Path,
        real: Services | None = None,
        operator: Mapping[str, str] | None = None,
        say: Say = say_to_stderr,
    ) -> None:
        """``real``: services to use in place of the stand-ins. ``operator``: more of its settings."""
        self.folder = folder
        self.cluster = ControlPlane(folder / "cluster", MANIFESTS, say)
        self.services = real
        self.daily_url = ""
        """Of the stand-in, without /v1."""
        self.gateway_url = ""
        self.operator_url = ""
        self._operator_settings = dict(operator or {})
        self._say = say
        self._components: list[Component] = []

    async def __aenter__(self) -> "Stack":
        """Until all of it is ready.

        Raises:
            ComponentFailed: with the failing component's last log lines.
            MissingBinary: a binary can be had from nowhere.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            async with self._step(
                "control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler; CRDs and RBAC"
            ):
                await self.cluster.start()
            async with self._step("process node"):
                await self._start_node()
            if self.services is None:
                async with self._step("stand-ins for Daily and OpenAI"):
                    self.services = await self._start_stand_ins()
            async with self._step("operator and gateway"):
                await asyncio.gather(self._start_operator(self.services), self._start_gateway())
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it all."""
        await self.stop()

    async def stop(self) -> None:
        """In the reverse order: the node ends its pods while there still is an API server to tell."""
        for component in reversed(self._components):
            await component.stop()
        self._components.clear()
        await self.cluster.stop()

    def check(self) -> None:
        """Raises ComponentFailed when one has ended."""
        self.cluster.check()
        for component in self._components:
            component.check()

    def component(self, name: str) -> Component:
        """One of the processes, by name: node, daily, openai, operator, gateway."""
        return next(component for component in self._components if component.name == name)

    def put_bot_keys(self, namespace: str) -> None:
        """The Secret ``bot-keys``: what examples/bot.yaml takes its environment from."""
        assert self.services is not None  # noqa: S101 - started
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bot-keys", "namespace": namespace},
            "stringData": dict(self.services.bot_keys),
        }
        self.cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(secret))

    async def _start_node(self) -> None:
        config = {
            "images": {
                IMAGE: {
                    "command": [sys.executable, "-m", "pipecat_bot"],
                    "workingDir": str(ROOT / "bot_image"),
                }
            }
        }
        file = self.folder / "images.json"
        file.write_text(json.dumps(config))
        arguments: list[str | Path] = ["--kubeconfig", self.cluster.kubeconfig, "--images", file]
        arguments += ["--directory", self.folder / "node"]
        if self.services is None:
            arguments += ["--pythonpath", PYTHONPATH]
        await self._start("node", "pipecat_local.node", environment(), *arguments)

    async def _start_stand_ins(self) -> Services:
        daily_key, openai_key = secrets.token_hex(32), f"sk-{secrets.token_hex(16)}"
        daily, openai = await asyncio.gather(
            self._start("daily", "pipecat_local.daily", environment(DAILY_API_KEY=daily_key), "--port", "0"),
            self._start("openai", "pipecat_local.openai", environment(OPENAI_API_KEY=openai_key), "--port", "0"),
        )
        self.daily_url = daily["url"]
        return Services(
            daily_api_key=daily_key,
            daily_api_url=daily["api_url"],
            bot_keys={"OPENAI_API_KEY": openai_key, "OPENAI_BASE_URL": openai["base_url"]},
        )

    async def _start_operator(self, services: Services) -> None:
        kubeconfig = await asyncio.to_thread(self.cluster.kubeconfig_for_service_account, NAMESPACE, "pipecat-operator")
        (port,) = free_ports(1)
        self.operator_url = f"http://127.0.0.1:{port}"
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "DAILY_API_KEY": services.daily_api_key,
            "DAILY_API_URL": services.daily_api_url,
            "PIPECAT_OPERATOR_NAMESPACE": NAMESPACE,
            "PIPECAT_OPERATOR_HTTP_PORT": str(port),
        }
        component = await self._spawn(
            "operator", "pipecat_operator", environment(**settings, **self._operator_settings)
        )
        await self._until_ready(component, f"{self.operator_url}/readyz")

    async def _start_gateway(self) -> None:
        kubeconfig = await asyncio.to_thread(self.cluster.kubeconfig_for_service_account, NAMESPACE, "pipecat-gateway")
        (port,) = free_ports(1)
        self.gateway_url = f"http://127.0.0.1:{port}"
        settings = {
            "KUBECONFIG": str(kubeconfig),
            "PIPECAT_GATEWAY_PORT": str(port),
            "PIPECAT_GATEWAY_BOT": "assistant",
            "PIPECAT_GATEWAY_NAMESPACE": "default",
            "PIPECAT_GATEWAY_CORS_ORIGINS": "*",
        }
        component = await self._spawn("gateway", "pipecat_gateway", environment(**settings))
        await self._until_ready(component, f"{self.gateway_url}/readyz")

    async def _start(self, name: str, module: str, env: dict[str, str], *arguments: str | Path) -> dict[str, Any]:
        component = await self._spawn(name, module, env, *arguments, wait_for_ready=True)
        return component.ready

    async def _spawn(
        self, name: str, module: str, env: dict[str, str], *arguments: str | Path, wait_for_ready: bool = False
    ) -> Component:
        component = Component(name, self.folder / f"{name}.log")
        self._components.append(component)
        await component.start([sys.executable, "-m", module, *arguments], env, wait_for_ready)
        return component

    async def _until_ready(self, component: Component, url: str) -> None:
        async def ready() -> bool:
            component.check()
            try:
                async with http.get(url) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            try:
                await until(f"{component.name} to be ready", ready, START_S)
            except TimeoutError as error:
                raise ComponentFailed(component.explain(str(error))) from error

    @contextlib.asynccontextmanager
    async def _step(self, what: str) -> AsyncIterator[None]:
        began = time.monotonic()
        yield
        self._say(f"  {time.monotonic() - began:5.1f} s  {what}")


@dataclass(frozen=True, slots=True)
class Running:
    """A stack that another process keeps running."""

    pid: int
    kubeconfig: Path
    gateway_url: str
    daily_url: str

    @property
    def cluster(self) -> Cluster:
        """Its control plane."""
        return Cluster(self.kubeconfig.parent)


def running_in(folder: Path) -> Running | None:
    """The stack of that folder, if one runs: its process holds the lock for as long as it lives."""
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        told = json.loads((folder / "running.json").read_text())
        return Running(told["pid"], Path(told["kubeconfig"]), told["gateway_url"], told["daily_url"])
    except FileNotFoundError:
        return None
    return None


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ComponentFailed(f"Another stack already runs in {folder}: make down.") from None
        yield


async def serve(folder: Path) -> None:
    """Run a stack, say when it is ready, and end with SIGTERM or with its first component."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    async with Stack(folder) as stack:
        await asyncio.to_thread(stack.put_bot_keys, "default")
        told = {
            "ready": True,
            "pid": os.getpid(),
            "kubeconfig": str(stack.cluster.kubeconfig),
            "gateway_url": stack.gateway_url,
            "daily_url": stack.daily_url,
        }
        (folder / "running.json").write_text(json.dumps(told))
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        while not stop.is_set():
            await asyncio.wait((stopping,), timeout=1)
            stack.check()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.stack", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="for its data, logs and kubeconfig")
    folder = parser.parse_args().directory.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _held(folder):
            asyncio.run(serve(folder))
    except (ComponentFailed, MissingBinary) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
