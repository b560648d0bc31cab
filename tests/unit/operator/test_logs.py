"""One event is one line, whatever is in it."""

import subprocess
import sys

PROGRAM = """
import sys
from loguru import logger
from pipecat_operator import logs
logs.configure("INFO", "text")
logger.info("said: {}", sys.argv[1])
"""


def logged(text: str) -> str:
    """What the operator's log says of it, from a process of its own: it has one logger."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, text], capture_output=True, timeout=30, check=True, env={"PYTHONUTF8": "1"}
    )
    return ran.stderr.decode()


def test_nobody_writes_a_line_of_his_own():
    told = logged("x\n2026-01-01T00:00:00.000Z ERROR   all is lost\r\x1b[2J\u2028\x85\u202ey")
    assert told.endswith(r"said: x\n2026-01-01T00:00:00.000Z ERROR   all is lost\r\x1b[2J\u2028\x85\u202ey" + "\n")
    assert len(told.splitlines()) == 1


def test_words_stay_as_they_are():
    assert logged("Größe \U0001f916 {x} \\n").endswith("said: Größe \U0001f916 {x} \\n\n")
