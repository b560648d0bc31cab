"""``python -m pipecat_local.daily``: one line of JSON when ready, then until SIGTERM. The key is DAILY_API_KEY."""

import argparse
import asyncio
import os
import time
from functools import cache

from pipecat_local.daily.calls import Calls
from pipecat_local.daily.rooms import Domain
from pipecat_local.daily.server import Server
from pipecat_local.daily.transcription import Transcriber
from pipecat_local.serving import LOOPBACK, announce, listen, stopped
from pipecat_local.speech.phrases import BOOK
from pipecat_local.speech.recogniser import Recogniser


async def main() -> None:
    """Serve one domain."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default=LOOPBACK, help="to listen on: in a pod, all of its addresses")
    parser.add_argument("--url", help="what rooms' URLs begin with: in a pod, the address of its Service")
    parser.add_argument("--no-limits", action="store_true")
    arguments = parser.parse_args()
    # Loading the speech model takes 0.3 s: only a call that is transcribed pays for it.
    recogniser = cache(lambda: Recogniser(BOOK.heard_by_bot()))
    domain = Domain("local", os.environ["DAILY_API_KEY"], "", time.time)
    calls = Calls(domain, lambda told: Transcriber(recogniser(), told))
    server = Server(domain, calls, limits=not arguments.no_limits)
    runner, url = await listen(server.app(), arguments.port, arguments.host)
    domain.base_url = arguments.url or url
    announce(url=url, api_url=f"{url}/v1")
    await stopped()
    await runner.cleanup()


asyncio.run(main())
