"""Starts operators by fork: ``python zygote.py``; an operator then takes 0.1 s to start instead of 1.

Reads one JSON object a line, {"env": ..., "log": path, "freeze_before": null or [method, part of the path]}; answers
{"pid": ...}. Each operator runs the same main() as ``python -m pipecat_operator``, in a process of its own.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

import aiohttp

from pipecat_operator.main import main

PR_SET_PDEATHSIG = 1


def freeze_before(method: str, path: str) -> None:
    """SIGSTOP ourselves where the HTTP client is about to send that for the first time: every check is passed."""
    send = aiohttp.ClientSession._request
    frozen = False

    async def freeze_and_send(self: aiohttp.ClientSession, verb: str, url: Any, **rest: Any) -> aiohttp.ClientResponse:
        nonlocal frozen
        if not frozen and verb == method and path in str(url):
            frozen = True
            os.kill(os.getpid(), signal.SIGSTOP)
        return await send(self, verb, url, **rest)

    aiohttp.ClientSession._request = freeze_and_send  # type: ignore[method-assign]


def operate(env: dict[str, str], log: str, frozen_before: list[str] | None) -> None:
    """In the child: become an operator."""
    if frozen_before:
        freeze_before(*frozen_before)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    main()


# The kernel reaps them.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    wanted = json.loads(line)
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        operate(wanted["env"], wanted["log"], wanted["freeze_before"])
    sys.stdout.write(json.dumps({"pid": pid}) + "\n")
    sys.stdout.flush()
