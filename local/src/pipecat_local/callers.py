"""Start a caller, as a process: it needs only what any user gets, the room's URL and a token."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from pipecat_local.controlplane import Cluster
from pipecat_local.processes import Component, tethered
from pipecat_local.stack import environment

CALL_S: Final = 180.0


def user_token(cluster: Cluster, session: dict[str, Any]) -> str:
    """From the session's Secret."""
    meta, status = session["metadata"], session["status"]
    template = "go-template={{.data.userToken | base64decode}}"
    secret = status["credentialsSecretName"]
    return cluster.kubectl("get", "secret", secret, "--namespace", meta["namespace"], "--output", template)


async def call(
    room_url: str, token: str, log: Path, *options: str, timeout_s: float = CALL_S
) -> AsyncIterator[dict[str, Any]]:
    """What happens in the call, event by event; the last one is the result.

    Raises:
        TimeoutError: it did not end in time.
    """
    command = [sys.executable, "-m", "pipecat_local.caller", "--room-url", room_url, *options]
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *tethered(command),
            env=environment(CALLER_TOKEN=token),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert process.stdout  # noqa: S101 - a pipe was asked for
    try:
        async with asyncio.timeout(timeout_s):
            async for line in process.stdout:
                yield json.loads(line)
            await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def result_of(room_url: str, token: str, log: Path, *options: str) -> dict[str, Any]:
    """Only the call's result.

    Raises:
        TimeoutError: it did not end in time.
        CallFailed: the caller broke off without one.
    """
    last: dict[str, Any] = {}
    async for event in call(room_url, token, log, *options):
        last = event
    if last.get("event") != "result":
        raise CallFailed(Component("caller", log).explain("broke off"))
    return last


class CallFailed(Exception):
    """The caller broke off; the text has its last log lines."""
