"""``python -m pipecat_local.node``: one process node, until SIGTERM."""

import argparse
import asyncio
import fcntl
import json
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kopf
import yaml
from loguru import logger

from pipecat_local.node import spec
from pipecat_local.node.address import Addresses
from pipecat_local.node.endpoint import Endpoint
from pipecat_local.node.events import Recorder
from pipecat_local.node.machine import Machine
from pipecat_local.node.pods import Pods
from pipecat_local.node.registration import Registration
from pipecat_operator.kube import ApiError, Kube

IP = "127.0.0.1"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(prog="python -m pipecat_local.node", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="whose cluster to join, and as whom")
    parser.add_argument("--name", default="process-node", help="the Node's name")
    parser.add_argument("--images", type=Path, required=True, help="the image map, JSON")
    parser.add_argument("--directory", type=_absolute, required=True, help="for pods' files and logs")
    parser.add_argument(
        "--pythonpath", type=_absolute, action="append", default=[], help="put first on every pod's PYTHONPATH"
    )
    parser.add_argument("--cpu", default="4", help="CPUs to advertise")
    parser.add_argument("--memory", default="8Gi", help="memory to advertise")
    flags = parser.parse_args(arguments)
    logger.remove()
    logger.add(sys.stderr, format="{time:HH:mm:ss.SSS} {level:<7} {message}", diagnose=False, backtrace=False)
    try:
        spec.images(flags.images.read_text())
    except (OSError, ValueError) as error:
        parser.error(f"--images {flags.images}: {error}")
    folder = Path(flags.directory)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            asyncio.run(run(flags, folder))
        except BlockingIOError:
            sys.exit(f"Another process node uses {folder}: stop it, or give --directory another folder.")
        except (ApiError, ValueError) as error:
            sys.exit(f"The process node can't join the cluster of {flags.kubeconfig}: {error}")


async def run(flags: argparse.Namespace, folder: Path) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    capacity = {"cpu": flags.cpu, "memory": flags.memory, "pods": "110", "ephemeral-storage": "100Gi"}
    host = spec.Host(
        flags.name,
        IP,
        capacity,
        path=f"{Path(sys.executable).parent}:{SYSTEM_PATH}",
        pythonpath=tuple(flags.pythonpath),
    )
    addresses = Addresses()
    async with Kube(login=lambda: credentials(flags.kubeconfig)) as kube:
        recorder = Recorder(kube, flags.name, now)
        pods = Pods(Machine(kube, recorder, addresses, host, flags.images, folder, now))
        pods.clear()
        endpoint = Endpoint(pods, folder / "pki")
        port = await endpoint.start(IP)
        registration = Registration(kube, flags.name, capacity, IP, port, now)
        await registration.register()
        tasks = [asyncio.create_task(part.run()) for part in (recorder, pods, registration)]
        print(json.dumps({"ready": True, "url": f"https://{IP}:{port}", "node": flags.name}), flush=True)
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            await pods.shut_down()
        finally:
            await pods.kill()
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await endpoint.stop()
            addresses.close()


def credentials(kubeconfig: Path) -> kopf.ConnectionInfo:
    """The current context's server, CA, and token or client certificate.

    Raises:
        ValueError: the file lacks them.
    """
    try:
        config = yaml.safe_load(kubeconfig.read_text())
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        return kopf.ConnectionInfo(
            server=cluster["server"],
            ca_path=cluster.get("certificate-authority"),
            ca_data=cluster.get("certificate-authority-data"),
            token=user.get("token"),
            certificate_path=user.get("client-certificate"),
            certificate_data=user.get("client-certificate-data"),
            private_key_path=user.get("client-key"),
            private_key_data=user.get("client-key-data"),
        )
    except (KeyError, TypeError, StopIteration, yaml.YAMLError) as error:
        raise ValueError(f"{kubeconfig} is no kubeconfig with a current context: {error!r}") from error


def _absolute(path: str) -> str:
    return str(Path(path).resolve())


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
