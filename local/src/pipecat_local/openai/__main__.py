"""``python -m pipecat_local.openai``: one line of JSON when ready, then until SIGTERM.

The key that clients must bring is taken from OPENAI_API_KEY; without one everybody may come in.
"""

import argparse
import asyncio
import os

from pipecat_local.openai.server import Server
from pipecat_local.serving import LOOPBACK, announce, listen, stopped
from pipecat_local.speech.phrases import BOOK
from pipecat_local.speech.recogniser import Recogniser


async def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default=LOOPBACK, help="to listen on: in a pod, all of its addresses")
    arguments = parser.parse_args()
    server = Server(BOOK, Recogniser(BOOK.heard_by_bot()), os.environ.get("OPENAI_API_KEY"))
    runner, url = await listen(server.app(), arguments.port, arguments.host)
    announce(url=url, base_url=f"{url}/v1")
    await stopped()
    await runner.cleanup()


asyncio.run(main())
