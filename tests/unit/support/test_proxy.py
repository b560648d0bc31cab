"""The proxy leaves no connection behind."""

import asyncio
import gc
import socket
import warnings

import aiohttp
import pytest
from yarl import URL

from support.proxy import Ledger, Proxy, Side


@pytest.mark.parametrize("turns", range(5))
def test_one_that_is_accepted_as_the_proxy_closes_is_closed_too(turns: int):
    async def close_while_one_comes() -> None:
        async with aiohttp.ClientSession() as http:
            async with Proxy(Side.DAILY, "http://127.0.0.1:9", http, Ledger()) as proxy:
                url = URL(proxy.url)
                caller = socket.create_connection((url.host, url.port))
                for _ in range(turns):
                    await asyncio.sleep(0)
            caller.close()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(close_while_one_comes())
        gc.collect()
    assert [str(each.message) for each in told] == []
