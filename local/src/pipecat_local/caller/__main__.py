"""``python -m pipecat_local.caller``: one call; a line of JSON an event, exit code 0 if every answer was right.

The token comes in CALLER_TOKEN: arguments are seen by every process on the machine.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from pipecat_local.caller.call import Call
from pipecat_local.caller.conversation import Caller
from pipecat_local.caller.judge import Verdict


def tell(**event: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def run(arguments: argparse.Namespace) -> bool:
    """Whether all went right."""
    call = Call()
    # Before joining: loading the speech models holds up every thread, and the bot greets at once.
    caller = Caller(call, arguments.seed)
    error = await call.join(arguments.room_url, os.environ.get("CALLER_TOKEN"))
    if error:
        tell(event="result", ok=False, why=f"could not join: {error}", turns=[])
        return False
    tell(event="joined", seed=arguments.seed)
    turns: list[dict[str, Any]] = []
    ok, why = True, ""
    try:
        if arguments.questions:
            async for event in caller.converse(arguments.questions):
                tell(**event)
                if event["event"] == "turn":
                    turns.append(event)
                elif event["event"] == "greeting" and not event["right"]:
                    ok, why = False, f"the greeting was heard as {event['heard']!r}"
        if arguments.stay:
            since = call.now()
            try:
                await asyncio.wait_for(call.ended.wait(), arguments.stay)
                at_s = round(call.now(), 3)
                tell(event="ended", at_s=at_s, heard=(await caller.listen(since)).text)
            except TimeoutError:
                tell(event="stayed", at_s=round(call.now(), 3))
    except TimeoutError:
        ok, why = False, "the bot did not come, or was not ready"
    wrong = [turn for turn in turns if turn["verdict"] != Verdict.RIGHT]
    if wrong:
        ok, why = False, "; ".join(f"{turn['question']} {turn['verdict']}" for turn in wrong)
    await call.leave()
    if arguments.record:
        await asyncio.to_thread(call.record, arguments.record)
    tell(event="result", ok=ok and len(turns) == arguments.questions, why=why, turns=turns)
    return ok and len(turns) == arguments.questions


def main() -> None:
    """Parse, run, exit."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.caller")
    parser.add_argument("--room-url", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--questions", type=int, default=2, help="0: say nothing")
    parser.add_argument("--stay", type=float, default=0.0, help="seconds to stay on, or until the call ends")
    parser.add_argument("--record", type=Path, help="write the call as a stereo WAV")
    sys.exit(0 if asyncio.run(run(parser.parse_args())) else 1)


main()
