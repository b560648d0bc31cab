"""Starts operators by fork: ``python zygote.py``; an operator then takes 0.1 s to start instead of 1.

Reads one JSON object a line, {"env": ..., "log": path}; answers {"pid": ...}. Each operator runs the same main() as
``python -m pipecat_operator``, in a process of its own.
"""

import ctypes
import json
import os
import signal
import sys

from pipecat_operator.main import main

PR_SET_PDEATHSIG = 1


def operate(env: dict[str, str], log: str) -> None:
    """In the child: become an operator."""
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
        operate(wanted["env"], wanted["log"])
    sys.stdout.write(json.dumps({"pid": pid}) + "\n")
    sys.stdout.flush()
