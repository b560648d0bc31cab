"""The gateway as a process, and a client of it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from pipecat_gateway.keys.ring import Entry, Kind, hash_of, new_token
from pipecat_local.controlplane import free_ports
from pipecat_local.processes import wait_until
from pipecat_operator.connections import Connector
from support.leaks import note
from support.operated import Child, Operated, get
from support.proxy import Proxy, kubeconfig
from support.rights import GATEWAY, Account, Right, install

UP_S = 30.0
NOBODY = "00000000-0000-0000-0000-000000000000"
"""The UID of no session."""


class Gateway:
    """One, and a client of it."""

    def __init__(self, of: Operated, log: Path, without: Right | None = None, **settings: str) -> None:
        """``without``: its service account has every right of the chart's save that, and it may never get ready."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        env = {
            "KUBECONFIG": settings.get("KUBECONFIG") or str(gateway_account(of, without).kubeconfig()),
            "PIPECAT_GATEWAY_NAMESPACE": of.namespace,
            "PIPECAT_GATEWAY_BOT": "bot",
            "PIPECAT_GATEWAY_PORT": str(port),
            **settings,
        }
        self.child = Child([sys.executable, "-m", "pipecat_gateway"], env, log, announces=False)
        up = (200, 503) if without else (200,)
        wait_until("the gateway", lambda: get(f"{self.url}/readyz")[0] in up or self.child.ended() is not None, UP_S)
        assert self.child.ended() is None, self.child.log()

    @cached_property
    def http(self) -> aiohttp.ClientSession:
        """Made in the loop that uses it."""
        connector = Connector(limit=0)
        return aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=60), connector=connector)

    async def call(self, method: str, path: str | URL, data: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON; every body of an error has string error and code."""
        async with self.http.request(method, path, data=data, **more) as answer:
            body: dict[str, Any] = await answer.json()
            if answer.status >= 400:
                assert isinstance(body["error"], str)
                assert isinstance(body["code"], str)
            return answer.status, body

    async def close(self) -> None:
        """End it; it must not have told a token, nor failed by a defect of its own, to its very end."""
        await self.http.close()
        if self.child.ended() is None:
            assert self.child.stop() == 0
        assert "eyJ" not in self.child.log(), "a token was logged"
        assert "Traceback" not in self.child.log(), self.child.log()


def gateway_account(of: Operated, without: Right | None = None) -> Account:
    """The service account of a gateway for that namespace; one without some right is a release of its own."""
    release = f"{of.namespace}-{without.verb}" if without else None
    return install(of.cluster, GATEWAY, of.namespace, [of.namespace], release, without)


async def gateway_behind(proxy: Proxy, idle: Operated, folder: Path, **settings: str) -> Gateway:
    """One that has no other way."""
    settings["KUBECONFIG"] = way(proxy, idle, folder)
    return await asyncio.to_thread(Gateway, idle, folder / "gateway.log", **settings)


def way(proxy: Proxy, idle: Operated, folder: Path) -> str:
    """A kubeconfig."""
    config = folder / "between.kubeconfig"
    config.write_text(kubeconfig(proxy.url, idle.namespace))
    return str(config)


class Keys:
    """A folder with keys, and their tokens, which the run's logs are searched for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keys"
        self.folder.mkdir()
        self._notes = folder
        self.tokens: dict[str, str] = {}

    def add(self, key_id: str, kind: Kind = "public", **fields: Any) -> str:
        """Its token."""
        self.tokens[key_id] = token = new_token(key_id, kind)
        entry = Entry.model_validate({"hash": hash_of(token), "kind": kind, **fields})
        # In one step: the gateway may be reading.
        part = self._notes / f"{key_id}.part"
        part.write_text(entry.model_dump_json(by_alias=True))
        part.rename(self.folder / key_id)
        note(self._notes, self.tokens.values())
        return token

    def remove(self, key_id: str) -> None:
        """It is no key any more."""
        (self.folder / key_id).unlink()


@contextlib.asynccontextmanager
async def with_keys(of: Operated, keys: Keys) -> AsyncIterator[Gateway]:
    """One that asks for these keys, and tells none of them to its log."""
    log = keys.folder.with_name("gateway.log")
    made = await asyncio.to_thread(Gateway, of, log, PIPECAT_GATEWAY_KEYS=str(keys.folder))
    try:
        yield made
    finally:
        await made.close()
    assert [key_id for key_id, token in keys.tokens.items() if token in made.child.log()] == []


def bearer(token: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {token}"}
