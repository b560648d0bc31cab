"""``python -m pipecat_local demo|up|down|node``: the whole of it on this machine."""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from pipecat_local.assets import MissingBinary
from pipecat_local.callers import user_token
from pipecat_local.demo import DemoFailed, demo
from pipecat_local.processes import ComponentFailed, wait_until
from pipecat_local.realnode.packages import NotHere
from pipecat_local.realnode.serve import serve
from pipecat_local.stack import ROOT, environment, running_in

STATE = ROOT / ".local"
UP = STATE / "up"
START_S = 1800.0
"""The first time the binaries are built."""
STOP_S = 60.0

USE = """
It runs; make down ends it. Logs are in {logs}.

  export KUBECONFIG={running.kubeconfig}
  export PATH=$PATH:{tools}        # kubectl

  kubectl apply -f {examples}/bot.yaml -f {examples}/session.yaml
  kubectl get botsessions --watch
  kubectl explain botsession.spec
  kubectl patch botsession demo --type merge --patch '{{"spec": {{"stop": true}}}}'

The gateway is {running.gateway_url}

  curl --request POST {running.gateway_url}/start_bot
  make call        # joins the session `demo`, asks, listens, records call.wav
"""


def up() -> None:
    """Start a stack that stays, and say how to use it."""
    running = running_in(UP)
    if running is None:
        UP.mkdir(parents=True, exist_ok=True)
        log = UP / "stack.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipecat_local.stack", "--directory", UP],
                env=environment(
                    **{k: v for k, v in os.environ.items() if k in ("KUBEBUILDER_ASSETS", "XDG_CACHE_HOME")}
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _follow(log, process)
        running = running_in(UP)
    if running is None:
        raise ComponentFailed("The stack did not stay up.")
    here = Path.cwd()
    examples, logs = os.path.relpath(ROOT / "examples", here), os.path.relpath(UP, here)
    sys.stdout.write(USE.format(running=running, tools=running.kubeconfig.parent, examples=examples, logs=logs))


def _follow(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Show the progress until it is ready."""
    with log.open() as lines:

        def ready() -> bool:
            for line in lines:
                if line.startswith("{"):
                    return True
                sys.stdout.write(line)
                sys.stdout.flush()
            if process.poll() is not None:
                raise ComponentFailed("".join(lines) or "The stack ended.")
            return False

        wait_until("the stack to be ready", ready, START_S)


def call() -> None:
    """Talk to the bot of the session ``demo`` of the running stack."""
    running = running_in(UP)
    if running is None:
        raise ComponentFailed("Nothing runs: make up.")
    query = ["get", "botsession", "demo", "--output", "json"]
    session = json.loads(running.cluster.kubectl(*query))
    token = user_token(running.cluster, session)
    command = [sys.executable, "-m", "pipecat_local.caller", "--room-url", session["status"]["room"]["url"]]
    sys.exit(
        subprocess.run([*command, "--record", "call.wav"], env=environment(CALLER_TOKEN=token), check=False).returncode
    )


def down() -> None:
    """End it."""
    running = running_in(UP)
    if running is None:
        sys.stdout.write("Nothing runs.\n")
        return
    os.kill(running.pid, signal.SIGTERM)
    wait_until("the stack to end", lambda: running_in(UP) is None, STOP_S)
    sys.stdout.write("It has ended.\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demonstration = commands.add_parser("demo", help="from kubectl apply to a heard answer")
    demonstration.add_argument("--real", action="store_true", help="with the real Daily and OpenAI; costs money")
    demonstration.add_argument("--seed", type=int, default=random.randrange(1000), help="draws the questions")
    commands.add_parser("up", help="start everything and leave it running")
    commands.add_parser("call", help="talk to the bot of the session `demo` of what up started")
    commands.add_parser("down", help="end what up started")
    node = commands.add_parser("node", help="a real node: root on Linux")
    node.add_argument("--directory", type=Path, default=STATE / "node", help="for its logs and kubeconfig")
    node.add_argument("--image", type=Path, action="append", default=[], help="an archive, as docker save writes it")
    given = parser.parse_args()
    try:
        if given.command == "demo":
            asyncio.run(demo(STATE / "demo", given.real, given.seed))
        elif given.command == "node":
            asyncio.run(serve(given.directory.absolute(), [image.absolute() for image in given.image]))
        else:
            {"up": up, "call": call, "down": down}[given.command]()
    except (ComponentFailed, DemoFailed, MissingBinary, NotHere, TimeoutError) as error:
        sys.exit(f"\nFailed. {error}")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; all of it has ended.")


if __name__ == "__main__":
    main()
