"""Where it is measured: a control plane of its own, kwok's nodes, the Daily stand-in, the operator as a process."""

import re
import shutil
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.load import BOT, CLEAN_S, POLL_S, bot_spec, remove_all, until_gone
from pipecat_local.controlplane import Cluster, ControlPlane
from pipecat_local.kwok import KwokNodes
from pipecat_local.processes import until
from pipecat_operator.kube import JOBS, PODS, SECRETS, SESSIONS, Kube
from support.operated import BY_OPERATOR, DAILY_KEY, Child, Operated, get

CRDS = Path(__file__).parents[2] / "crds"
NODES = 4
PLENTY = {"PIPECAT_OPERATOR_DAILY_REQUESTS_PER_SECOND": "5000", "PIPECAT_OPERATOR_DAILY_DELETES_PER_SECOND": "500"}
"""Daily's limits, raised out of the way."""
QUIET = {"PIPECAT_OPERATOR_LOG_LEVEL": "INFO"}
"""As installed by default."""


class Site(Operated):
    """A namespace on kwok's nodes with a Daily stand-in and, once started, an operator."""

    def begin(self, **settings: str) -> Child:
        """One operator."""
        return self.start(**QUIET, **settings)

    def metric(self, name: str) -> float:
        """The sum of the series of that name; labels may be part of it."""
        return sum(
            float(line.rpartition(" ")[2])
            for line in get(f"{self.metrics_url}/metrics")[1].splitlines()
            if re.match(re.escape(name) + r"(\{| )", line) or line.startswith(f"{name} ")
        )

    def daily_calls(self) -> Counter[str]:
        """Method, route and status of every call to Daily."""
        return Counter(self.daily_state()["calls"])

    def writes(self) -> Counter[str]:
        """What the operator wrote in the namespace, by verb and resource; the load's own writes left out."""
        found: Counter[str] = Counter()
        for entry in self.cluster.audited(self.namespace, BY_OPERATOR):
            of = entry["objectRef"]
            if entry["responseStatus"]["code"] < 300:
                sub = f"/{of['subresource']}" if of.get("subresource") else ""
                found[f"{entry['verb']} {of['resource']}{sub}"] += 1
        return found

    async def until_metric(self, name: str, value: float, timeout_s: float = CLEAN_S) -> None:
        """Until that metric has reached that value."""

        async def reached() -> bool:
            return self.metric(name) >= value

        await until(f"{name} to be {value}", reached, timeout_s, POLL_S)


class World:
    """The control plane and what goes with it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.api = Kube(login=cluster.login)

    @asynccontextmanager
    async def site(self, limits: bool = False) -> AsyncIterator[Site]:
        """A fresh namespace; ``limits``: Daily's real ones."""
        name = f"bench-{uuid.uuid4().hex[:8]}"
        command: list[str | Path] = [sys.executable, "-m", "pipecat_local.daily"]
        daily = Child(
            command if limits else [*command, "--no-limits"],
            {"DAILY_API_KEY": DAILY_KEY},
            self.folder / f"{name}.daily.log",
        )
        folder = self.folder / name
        folder.mkdir()
        capacity = {"cpu": "1000", "memory": "10000Gi", "pods": "10000"}
        async with KwokNodes(self.cluster, folder, pool=name, count=NODES, capacity=capacity):
            self.cluster.create_namespace(name, pool=name)
            site = Site(self.cluster, name, daily, folder)
            site.apply("Bot", BOT, bot_spec())
            try:
                yield site
            finally:
                site.close()
                daily.stop()
                # While kwok still ends the pods; and the next measurement must not share the machine with it.
                await remove_all(self.api, name, SESSIONS, JOBS)
                await until_gone(self.api, name, SESSIONS, JOBS, PODS, SECRETS)
                site.kubectl("delete", "namespace", name, "--wait=false")


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Started, and gone without a trace afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pipecat-bench-"))
    plane = ControlPlane(folder / "plane", [CRDS])
    await plane.start()
    there = World(plane, folder)
    try:
        yield there
    finally:
        await there.api.close()
        await plane.stop()
        shutil.rmtree(folder, ignore_errors=True)
