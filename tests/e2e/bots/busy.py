"""Takes all the CPU that it is given, and never joins."""

import asyncio
import threading
from typing import Any

THREADS = 4


def burn() -> None:
    """Compression lets go of the interpreter's lock: the threads run at the same time."""
    import zlib

    block = bytes(range(256)) * 4096
    while True:
        zlib.compress(block, 9)


async def bot(runner_args: Any) -> None:
    """Until it is ended."""
    for _ in range(THREADS):
        threading.Thread(target=burn, daemon=True).start()
    print("burning", flush=True)
    await asyncio.Event().wait()
