"""A participant that plays the bot to the caller: a real voice in a real room, but not always the right words.

``python bot.py ROOM_URL``, token in BOT_TOKEN, a JSON list of what to say to one question after the other in SAYS: a
text, ``noise``, or ``nothing``. It greets once the caller is ready.
"""

import asyncio
import json
import os
import sys
from typing import Any

import numpy as np

from pipecat_local.caller.call import RATE, Call
from pipecat_local.caller.judge import utterance
from pipecat_local.speech.phrases import BOOK
from pipecat_local.speech.voice import BOT, speak


def sound_of(words: str) -> bytes:
    """What is played."""
    if words == "nothing":
        return b""
    if words == "noise":
        return np.random.default_rng(7).normal(0, 3000, 2 * RATE).astype(np.int16).tobytes()
    return speak(words, BOT, RATE)


def message(kind: str, **data: Any) -> dict[str, Any]:
    """RTVI."""
    return {"type": kind, "id": "1", "data": data}


async def until(call: Call, condition: Any) -> None:
    """Sound is looked at every 20 ms."""
    while not condition() and not call.ended.is_set():  # noqa: ASYNC110 - sound has no event
        await asyncio.sleep(0.02)


async def main(url: str, says: list[str]) -> None:
    """One call."""
    call = Call()
    error = await call.join(url, os.environ["BOT_TOKEN"])
    assert error is None, error
    sys.stdout.write("joined\n")
    sys.stdout.flush()
    await until(call, lambda: call.message("client-ready", 0.0) is not None)
    call.send(message("bot-ready", version="1.0.0"))
    await call.say(sound_of(BOOK.greeting))
    heard_until = call.now()
    for words in says:
        since = heard_until
        await until(call, lambda since=since: (utterance(call.heard_since(since), RATE) or (0, 0, False))[2])
        call.send(message("user-transcription", text="?", final=True))
        call.send(message("user-stopped-speaking"))
        await call.say(sound_of(words))
        heard_until = call.now()
    await call.ended.wait()
    await call.leave()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(os.environ["SAYS"])))
