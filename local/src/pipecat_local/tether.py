"""Run a program that ends with its parent: ``python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT ...]``.

A program of its own and not a ``preexec_fn``: that one is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
NOT_EXECUTABLE = 127

parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
# The parent may have gone before the line above: then nobody would ever tell us.
if os.getppid() != int(parent):
    sys.exit(1)
try:
    os.execvp(command[0], command)  # noqa: S606
except OSError as error:
    sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    sys.exit(NOT_EXECUTABLE)
