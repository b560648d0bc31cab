"""``python -m pipecat_gateway [--insecure]``."""

import argparse
import asyncio
import signal
import sys

from aiohttp import web
from loguru import logger

from pipecat_gateway.server import Server
from pipecat_gateway.sessions import Sessions
from pipecat_gateway.settings import Settings, load
from pipecat_operator import logs
from pipecat_operator.kube import Kube
from pipecat_operator.settings import SettingsError

EX_CONFIG = 78
DRAIN_S = 30.0
"""Starts in flight are answered."""


async def run(settings: Settings) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Kube() as kube:
        sessions = Sessions(kube, settings.namespace)
        watching = asyncio.create_task(sessions.run())
        # A caller who goes away before the answer is noticed by its request's cancellation.
        runner = web.AppRunner(
            Server(settings, sessions).app(), access_log=None, handler_cancellation=True, shutdown_timeout=DRAIN_S
        )
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.port).start()
        logger.info("Listening on {}", ", ".join(f"{host}:{port}" for host, port, *_ in runner.addresses))
        await stop.wait()
        await runner.cleanup()
        watching.cancel()


def main() -> None:
    """Read the settings, serve."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_gateway")
    parser.add_argument("--insecure", action="store_true", help="listen beyond loopback although there are no API keys")
    try:
        settings = load(parser.parse_args().insecure)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EX_CONFIG)
    logs.configure(settings.log_level, settings.log_format)
    asyncio.run(run(settings))


main()
