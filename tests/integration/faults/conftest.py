"""Operators behind proxies that lose, delay and refuse; pods are kwok's. One event loop for a whole module."""

import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from support.world import World


@pytest_asyncio.fixture(loop_scope="module")
async def a_world(worlds) -> AsyncIterator[World]:
    """One."""
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(worlds())
