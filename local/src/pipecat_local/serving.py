"""What every stand-in does the same: tell that it is ready, and end on SIGTERM."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any, Final

from aiohttp import web

LOOPBACK: Final = "127.0.0.1"
PYTHONPATH: Final = Path(__file__).parents[2] / "pythonpath"
"""Holds the stand-in ``daily`` package; put first on a bot's PYTHONPATH."""


def announce(**facts: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps({"ready": True, **facts}) + "\n")
    sys.stdout.flush()


async def stopped() -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


async def listen(app: web.Application, port: int, host: str = LOOPBACK) -> tuple[web.AppRunner, str]:
    """Listen there; answers the URL."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    return runner, f"http://{host}:{runner.addresses[0][1]}"
