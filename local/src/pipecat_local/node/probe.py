"""Probes: asking one, and asking again and again.

Source: pkg/kubelet/prober and pkg/probe, v1.37: periods, thresholds and messages are kubelet's.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from pipecat_local.node.process import Process
from pipecat_local.node.spec import Command
from pipecat_local.node.threshold import Threshold
from pipecat_operator.kube import Object

BODY_BYTES: Final = 10 * 1024
USER_AGENT: Final = "kube-probe/1.37"


async def ask(probe: Object, container: Object, pod_ip: str, command: Command) -> str | None:
    """Once. ``None``: a success; else what went wrong, in kubelet's words."""
    timeout = float(probe.get("timeoutSeconds") or 1)
    if "httpGet" in probe:
        return await _http(probe["httpGet"], container, pod_ip, timeout)
    if "tcpSocket" in probe:
        return await _tcp(probe["tcpSocket"], container, pod_ip, timeout)
    return await _exec(probe["exec"].get("command") or [], command, timeout)


async def repeat(
    probe: Object,
    question: Callable[[], Awaitable[str | None]],
    changed: Callable[[bool], None],
    failed: Callable[[str], None],
) -> None:
    """Until cancelled.

    ``changed`` gets what the probe says whenever a threshold is reached, ``failed`` the text of each failure.
    """
    threshold = Threshold(probe.get("successThreshold") or 1, probe.get("failureThreshold") or 3)
    await asyncio.sleep(float(probe.get("initialDelaySeconds") or 0))
    period = float(probe.get("periodSeconds") or 10)
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        failure = await question()
        if failure is not None:
            failed(failure)
        threshold, says = threshold.seen(failure is None)
        if says is not None:
            changed(says)
        # As a Go ticker: a late answer does not shift the beat, and missed beats are not made up for.
        due = max(due + period, loop.time())
        await asyncio.sleep(due - loop.time())


def port_number(port: int | str, container: Object) -> int:
    """A probe's port: a number, or the name of one of the container's.

    Raises:
        LookupError: no port of that name.
    """
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for entry in container.get("ports") or []:
        if entry.get("name") == port:
            return int(entry["containerPort"])
    raise LookupError(f"couldn't find port {port} in container {container['name']}")


async def _http(http_get: Object, container: Object, pod_ip: str, timeout: float) -> str | None:
    try:
        port = port_number(http_get["port"], container)
    except LookupError as error:
        return str(error)
    scheme = (http_get.get("scheme") or "HTTP").lower()
    path = (http_get.get("path") or "/").lstrip("/")
    url = f"{scheme}://{http_get.get('host') or pod_ip}:{port}/{path}"
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in http_get.get("httpHeaders") or []}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as client,
            client.get(url, headers=headers, allow_redirects=False, ssl=False) as response,
        ):
            await response.content.read(BODY_BYTES)
            if 200 <= response.status < 400:
                return None
            return f"HTTP probe failed with statuscode: {response.status}"
    except TimeoutError:
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except aiohttp.ClientConnectorError as error:
        return f'Get "{url}": dial tcp {pod_ip}:{port}: connect: {_reason(error.os_error)}'
    except aiohttp.ClientError as error:
        return f'Get "{url}": {error}'


async def _tcp(tcp_socket: Object, container: Object, pod_ip: str, timeout: float) -> str | None:
    host = tcp_socket.get("host") or pod_ip
    try:
        port = port_number(tcp_socket["port"], container)
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except LookupError as error:
        return str(error)
    except TimeoutError:
        return f"dial tcp {host}:{port}: i/o timeout"
    except OSError as error:
        return f"dial tcp {host}:{port}: connect: {_reason(error)}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


def _reason(error: OSError) -> str:
    # asyncio has a text of its own in strerror.
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def _exec(words: list[str], command: Command, timeout: float) -> str | None:
    with tempfile.NamedTemporaryFile(prefix="probe-") as output:
        try:
            process = Process(replace(command, argv=tuple(words)), Path(output.name))
        except (OSError, ValueError) as error:
            return f"command error: {error}"
        try:
            async with asyncio.timeout(timeout):
                code = await process.wait()
        except TimeoutError:
            return f'command timed out: "{" ".join(words)}" timed out after {timeout:g}s'
        finally:
            process.kill()
        return None if code == 0 else output.read(BODY_BYTES).decode(errors="replace")
