"""Fake nodes: kwok plays their pods, so that a thousand cost what ten do.

How they behave stands in ``local/kwok/stages.yaml``.
"""

import asyncio
import json
from pathlib import Path
from typing import Final, Self

from pipecat_local.assets import KWOK_BINARY, MODULES, Say, find, say_to_stderr
from pipecat_local.controlplane import POOL, Cluster
from pipecat_local.processes import Component

STAGES: Final = MODULES / "kwok" / "stages.yaml"
LEASE_S: Final = 40


class KwokNodes:
    """Fake nodes of one pool, and the kwok that plays them; an async context manager."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        pool: str,
        count: int = 1,
        capacity: dict[str, str] | None = None,
        say: Say = say_to_stderr,
    ) -> None:
        """``capacity``: of each node; plenty when not given."""
        self._cluster = cluster
        self._pool = pool
        self._names = [f"{pool}-{number}" for number in range(count)]
        self._capacity = capacity or {"cpu": "1000", "memory": "1000Gi", "pods": "10000"}
        self._say = say
        self._kwok = Component("kwok", folder / f"kwok-{pool}.log")

    async def __aenter__(self) -> Self:
        """Until the nodes are Ready.

        Raises:
            MissingBinary: there is no kwok.
            ComponentFailed: it did not stay up.
        """
        binary = (await asyncio.to_thread(find, (KWOK_BINARY,), self._say))["kwok"]
        nodes = {"apiVersion": "v1", "kind": "List", "items": [self._node(name) for name in self._names]}
        await asyncio.to_thread(self._cluster.kubectl, "create", "-f", "-", stdin=json.dumps(nodes))
        await self._kwok.start(
            [
                binary,
                f"--kubeconfig={self._cluster.kubeconfig}",
                f"--config={STAGES}",
                f"--manage-nodes-with-label-selector={POOL}={self._pool}",
                f"--node-lease-duration-seconds={LEASE_S}",
                "--node-ip=127.0.0.1",
            ]
        )
        try:
            await asyncio.to_thread(
                self._cluster.kubectl,
                *("wait", "node", "--selector", f"{POOL}={self._pool}", "--for=condition=Ready", "--timeout=30s"),
            )
            self._kwok.check()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """The nodes go too: nobody would play their pods."""
        await self._kwok.stop()
        await asyncio.to_thread(self._cluster.kubectl, "delete", "node", *self._names, "--wait=false")

    def _node(self, name: str) -> dict[str, object]:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {POOL: self._pool, "kubernetes.io/hostname": name}},
            "spec": {"taints": [{"key": POOL, "value": self._pool, "effect": "NoSchedule"}]},
            "status": {"capacity": self._capacity, "allocatable": self._capacity},
        }
