"""``python -m pipecat_bot [-u URL -t TOKEN] [bot.py]``: one bot, one session."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from pipecat_bot.ending import Ending, Reason
from pipecat_bot.environment import BadEnvironment, Session, read
from pipecat_bot.host import Host


async def _run(session: Session, bot_file: Path) -> Ending:
    return await Host(session, bot_file).run()


def main() -> None:
    """Run, and exit with the ending's code."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_bot", description="Run a bot.py in one Daily room.")
    parser.add_argument("-u", "--url", help="the room's URL (else DAILY_ROOM_URL)")
    parser.add_argument("-t", "--token", help="a meeting token, for trying by hand (else DAILY_ROOM_TOKEN)")
    parser.add_argument("bot", nargs="?", default="bot.py", help="the file with async def bot(runner_args)")
    arguments = parser.parse_args()
    try:
        session = read(os.environ, arguments.url, arguments.token)
    except BadEnvironment as error:
        path = os.environ.get("PIPECAT_TERMINATION_MESSAGE_PATH")
        ending = Ending(Reason.BAD_CONFIG, str(error))
        ending.write(Path(path) if path else None)
    else:
        ending = asyncio.run(_run(session, Path(arguments.bot).resolve()))
    sys.stderr.write(f"{ending.reason}: {ending.message}\n")
    sys.stderr.flush()
    # Not sys.exit: threads that bot code left behind must not keep the pod.
    os._exit(ending.exit_code)


if __name__ == "__main__":
    main()
