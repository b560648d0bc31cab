"""Gateways as processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateway import Gateway, gateway_account
from support.operated import Operated
from support.proxy import Ledger, Proxy, kubernetes_proxy


@pytest.fixture
async def gateway(operated: Operated, tmp_path: Path) -> AsyncIterator[Gateway]:
    """With the operator and the Bot ``bot``."""
    made = Gateway(operated, tmp_path / "gateway.log")
    yield made
    await made.close()


@pytest.fixture
async def alone(idle: Operated, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Without an operator: nothing it starts gets anywhere."""
    idle.bot()
    made = Gateway(idle, tmp_path / "gateway.log")
    yield made
    await made.close()


@pytest.fixture
async def between(idle: Operated) -> AsyncIterator[tuple[Proxy, Ledger]]:
    """A way to the API server that loses things."""
    idle.bot()
    ledger = Ledger()
    async with kubernetes_proxy(gateway_account(idle).login(), ledger) as proxy:
        yield proxy, ledger
