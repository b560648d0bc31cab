"""``python -m pipecat_gateway [--insecure]``."""

import argparse
import asyncio
import signal
import sys
from typing import cast

from aiohttp import web
from loguru import logger

from pipecat_gateway.keys.folder import KeyFolder
from pipecat_gateway.keys.ring import anyone
from pipecat_gateway.middleware.connections import SPARE, Connections
from pipecat_gateway.server import Server
from pipecat_gateway.sessions.watch import Sessions
from pipecat_gateway.settings import PREFIX, Settings, load
from pipecat_operator import logs
from pipecat_operator.kube import Kube, bear_deep_json
from pipecat_operator.settings import SettingsError

EX_CONFIG = 78
LAST_ANSWERS_S = 2.0
"""For telling the callers of starts that are given up."""


async def run(settings: Settings) -> None:
    """Until SIGTERM.

    Raises:
        SettingsError: no credentials, or nowhere to listen.
        Exception: what ended the watch. Without it every answer would be stale, so the process ends.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    keys = KeyFolder(settings.keys) if settings.keys else None
    if keys:
        keys.refresh()
    async with connected() as kube:
        sessions = Sessions(kube, settings.namespace)
        runner = web.AppRunner(
            Server(settings, sessions, keys.find if keys else anyone).app(),
            # A caller who goes away before the answer is noticed by its request's cancellation.
            handler_cancellation=True,
            shutdown_timeout=settings.drain_seconds + LAST_ANSWERS_S,
        )
        await runner.setup()
        listening = await listen(runner, settings)
        watching = asyncio.create_task(_watch(sessions, keys))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((watching, stopped), return_when=asyncio.FIRST_COMPLETED)
        loop.call_later(0 if watching.done() else settings.drain_seconds, sessions.give_up)
        listening.close()
        await runner.cleanup()
        if watching.done():
            await watching
        watching.cancel()
        await asyncio.wait((watching,))


async def _watch(sessions: Sessions, keys: KeyFolder | None) -> None:
    """Until cancelled, or one of them fails."""
    async with asyncio.TaskGroup() as group:
        group.create_task(sessions.run())
        if keys:
            group.create_task(keys.follow())


def connected() -> Kube:
    """A client with the credentials of this process."""
    try:
        return Kube()
    except RuntimeError as error:
        raise SettingsError(str(error)) from None


async def listen(runner: web.AppRunner, settings: Settings) -> asyncio.Server:
    """Take the port, and say so."""
    most = settings.open_requests + settings.proxied_requests + SPARE
    # Not by aiohttp's TCPSite: that makes its connections itself.
    made = Connections(cast(web.Server, runner.server), most, settings.head_seconds, settings.idle_seconds)
    try:
        server = await asyncio.get_running_loop().create_server(made, settings.host, settings.port)
    except OSError as error:
        await runner.cleanup()
        raise SettingsError(f"{PREFIX}HOST, {PREFIX}PORT: the gateway can't listen there: {error.strerror}") from None
    addresses = (socket.getsockname() for socket in server.sockets)
    logger.info("Listening on {}", ", ".join(f"{host}:{port}" for host, port, *_ in addresses))
    return server


def main() -> None:
    """Read the settings, serve."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_gateway")
    parser.add_argument("--insecure", action="store_true", help="listen beyond loopback without API keys")
    try:
        settings = load(parser.parse_args().insecure)
        logs.configure(settings.log_level, settings.log_format)
        bear_deep_json()
        asyncio.run(run(settings))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EX_CONFIG)


main()
