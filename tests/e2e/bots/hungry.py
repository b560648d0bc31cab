"""Takes more and more memory."""

from typing import Any

STEP = 16 * 2**20


async def bot(runner_args: Any) -> None:
    """Until it is killed."""
    held = []
    while True:
        held.append(bytearray(b"x" * STEP))
