"""One pod's life on the node: prepare, run, tell, end. The only writer of its status."""

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from loguru import logger

from pipecat_local.node import probe, spec, status
from pipecat_local.node.address import Addresses
from pipecat_local.node.events import Recorder
from pipecat_local.node.process import Grace, Process, kill_strays, termination_message
from pipecat_local.node.spec import Command, ConfigError, Folders, MountError, Sources
from pipecat_local.node.status import Container, Known, Running, Terminated, Verdict, Waiting
from pipecat_operator.kube import (
    CONFIGMAPS,
    PODS,
    SECRETS,
    ApiError,
    Conflict,
    Kube,
    NotFound,
    Object,
    Refused,
    Resource,
    Unavailable,
)

MIN_GRACE_S: Final = 2.0
"""kubelet's: even a force-deleted pod gets that long."""

SHUTDOWN_GRACE_S: Final = 5.0
RETRY_S: Final = 2.0
"""Between looks at what was missing; kubelet takes up to 10 s."""

PULL_BACKOFF_S: Final = 10.0
PULL_BACKOFF_MAX_S: Final = 300.0
WRITE_BACKOFF_MAX_S: Final = 5.0
START_ERROR: Final = 128

DEADLINE: Final = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
SHUTDOWN: Final = Verdict("Terminated", "Pod was terminated in response to imminent node shutdown.", disruption=True)


class ImageMissing(Exception):
    """The image isn't in the map; the text says which are."""


@dataclass(frozen=True, slots=True)
class Node:
    """What all pods of the node share."""

    kube: Kube
    recorder: Recorder
    addresses: Addresses
    host: spec.Host
    image_map: Path
    folder: Path
    clock: Callable[[], datetime]

    def image(self, name: str) -> spec.Image:
        """What an image stands for; the map is read anew, so that one may be added while a pod waits.

        Raises:
            ImageMissing: it isn't in the map.
        """
        try:
            known = spec.images(self.image_map.read_text())
        except (OSError, ValueError) as error:
            raise ImageMissing(f"the image map {self.image_map.name} can't be read: {error}") from error
        if name not in known:
            raise ImageMissing(f"not found in the process node's image map, which has: {', '.join(known) or 'none'}")
        return known[name]

    def log(self, pod: Object, container: str) -> Path:
        """Where a container's output goes."""
        metadata = pod["metadata"]
        folder = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return self.folder / "logs" / folder / f"{container}.log"


class Pod:
    """One pod bound to the node, by UID."""

    def __init__(self, node: Node, pod: Object) -> None:
        self._node = node
        self._pod = pod
        metadata = pod["metadata"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.uid: str = metadata["uid"]
        self._folders = Folders(node.folder / "pods" / self.uid)
        stored = pod.get("status") or {}
        started_at = status.parsed(stored["startTime"]) if stored.get("startTime") else node.clock()
        self._known = Known(node.host.ip, started_at)
        self._graces: dict[str, Grace] = {}
        self._stopping = asyncio.Event()
        self._to_delete = asyncio.Event()
        self._removed = asyncio.Event()
        self._dirty = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._observe(pod)

    # What the outside tells.

    def update(self, pod: Object) -> None:
        """The object changed."""
        if int(pod["metadata"]["resourceVersion"]) > int(self._pod["metadata"]["resourceVersion"]):
            self._pod = pod
            self._observe(pod)

    def removed(self) -> None:
        """The object is gone from the API server: nobody will read a status any more."""
        self._removed.set()
        self._to_delete.set()
        self._stop(MIN_GRACE_S)

    def shut_down(self) -> None:
        """The node is about to end."""
        self._fail(SHUTDOWN)
        self._to_delete.set()
        self._stop(min(SHUTDOWN_GRACE_S, self._grace()))

    @property
    def is_removed(self) -> bool:
        """Whether the object is gone."""
        return self._removed.is_set()

    @property
    def over(self) -> bool:
        """Whether no container runs or will."""
        return all(status.ended(container.state) for container in self._known.containers)

    def log(self, container: str) -> Path | None:
        """Where that container's output is, if the pod has one of that name."""
        names = [entry["name"] for entry in self._pod["spec"]["containers"]]
        return self._node.log(self._pod, container) if container in names else None

    def _observe(self, pod: Object) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            self._to_delete.set()
            self._stop(max(MIN_GRACE_S, float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)))

    def _grace(self) -> float:
        return float(self._pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _fail(self, verdict: Verdict) -> None:
        if self._known.verdict is None and any(not status.ended(c.state) for c in self._known.containers):
            self._known = replace(self._known, verdict=verdict)

    def _stop(self, grace_s: float) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            for container in self._known.containers:
                if isinstance(container.state, Running):
                    self._event("Normal", "Killing", f"Stopping container {container.name}", container.name)
        for grace in self._graces.values():
            grace.shorten(grace_s)

    # Its life.

    async def run(self) -> None:
        """From binding to removal."""
        publisher = asyncio.create_task(self._publish())
        try:
            if not status.terminal(self._pod):
                try:
                    await self._live()
                except Exception:
                    # Without an end its Job would wait for ever.
                    logger.exception("{} is given up: the node failed it", self)
                    self._give_up()
            await self._to_delete.wait()
            await self._written.wait()
            if self._pod["metadata"].get("deletionTimestamp") and not self._removed.is_set():
                await self._delete()
        finally:
            publisher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publisher

    async def _live(self) -> None:
        asked = spec.unsupported(self._pod)
        if status.was_started(self._pod):
            logger.warning("{} was running on an earlier process of this node and is lost", self)
            self._know(containers=status.restored(self._pod))
        elif asked:
            message = f"Pod was rejected: the process node can't give it {'; '.join(asked)}"
            self._event("Warning", "NotSupported", message)
            self._know(verdict=Verdict("NotSupported", message), rejected=True)
        else:
            await self._prepare_and_run()

    async def _prepare_and_run(self) -> None:
        specs = self._pod["spec"]["containers"]
        self._graces = {entry["name"]: Grace() for entry in specs}
        self._know(containers=tuple(Container(entry["name"], entry["image"]) for entry in specs))
        deadline = self._pod["spec"].get("activeDeadlineSeconds")
        timer = asyncio.create_task(self._end_at(deadline)) if deadline is not None else None
        address = self._node.addresses.take()
        try:
            if not self._stopping.is_set() and await self._set_up_volumes(address):
                self._known = replace(self._known, pod_ip=address)
                async with asyncio.TaskGroup() as group:
                    for entry in specs:
                        group.create_task(self._run_container(entry))
        finally:
            if timer:
                timer.cancel()
            self._node.addresses.release(address)
            await asyncio.to_thread(shutil.rmtree, self._folders.root, ignore_errors=True)
        self._give_up()

    def _give_up(self) -> None:
        self._know(containers=tuple(status.give_up(container) for container in self._known.containers))

    async def _end_at(self, deadline_s: float) -> None:
        ends = self._known.started_at + timedelta(seconds=deadline_s)
        await asyncio.sleep((ends - self._node.clock()).total_seconds())
        self._event("Normal", DEADLINE.reason, DEADLINE.message)
        self._fail(DEADLINE)
        self._stop(self._grace())

    async def _set_up_volumes(self, pod_ip: str) -> bool:
        """Retried until it is done (True) or the pod is to end (False)."""
        while True:
            try:
                sources = await self._sources()
                await asyncio.to_thread(self._write_volumes, sources, pod_ip)
            except MountError as error:
                self._event("Warning", "FailedMount", str(error))
            except (ApiError, OSError) as error:
                logger.warning("{}: its volumes can't be set up yet: {}", self, error)
            else:
                return not self._stopping.is_set()
            if await self._stopped_within(RETRY_S):
                return False

    def _write_volumes(self, sources: Sources, pod_ip: str) -> None:
        self._folders.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for volume in self._pod["spec"].get("volumes") or []:
            files = spec.volume_files(self._pod, volume, sources, self._node.host, pod_ip)
            folder = self._folders.volume(volume["name"])
            folder.mkdir(parents=True, exist_ok=True)
            for file in files:
                path = folder / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
                path.chmod(file.mode)
        for container in self._pod["spec"]["containers"]:
            self._folders.home(container["name"]).mkdir(parents=True, exist_ok=True)
            self._folders.termination_log(container["name"]).touch()
            for mount in container.get("volumeMounts") or []:
                path = self._folders.volume(mount["name"]) / (mount.get("subPath") or "")
                if not path.exists():
                    path.mkdir(parents=True)
            self._node.log(self._pod, container["name"]).parent.mkdir(parents=True, exist_ok=True)

    async def _sources(self) -> Sources:
        secrets, config_maps = spec.references(self._pod)
        return Sources(
            await self._read(SECRETS, secrets, spec.secret_data),
            await self._read(CONFIGMAPS, config_maps, spec.config_map_data),
        )

    async def _read(
        self, resource: Resource, names: Iterable[str], values: Callable[[Object], dict[str, bytes]]
    ) -> dict[str, dict[str, bytes]]:
        found = {}
        for name in sorted(names):
            with contextlib.suppress(NotFound):
                found[name] = values(await self._node.kube.get(resource, self.namespace, name))
        return found

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    # A container's life.

    async def _run_container(self, container: Object) -> None:
        name = container["name"]
        image = await self._pull(container)
        if image is None:
            return
        command = await self._configure(container, image)
        if command is None or self._stopping.is_set():
            return
        log = self._node.log(self._pod, name)
        try:
            process = Process(command, log)
        except (OSError, ValueError) as error:
            message = f"failed to start container: exec {command.argv[0]!r} in {command.cwd}: {error}"
            self._event("Warning", "Failed", f"Error: {message}", name)
            now = self._node.clock()
            self._set(name, state=Terminated(START_ERROR, "StartError", message, now, now))
            return
        self._event("Normal", "Created", "Container created", name)
        self._event("Normal", "Started", "Container started", name)
        logger.info("{}: container {} runs as process {}, its output goes to {}", self, name, process.pid, log)
        started_at = self._node.clock()
        self._set(
            name,
            id=f"process://{uuid.uuid4().hex}",
            state=Running(started_at),
            ready="readinessProbe" not in container and "startupProbe" not in container,
            started="startupProbe" not in container,
        )
        code = await self._until_ended(container, command, process)
        strays = await asyncio.to_thread(kill_strays, self._folders.container(name))
        if strays:
            logger.info("{}: killed what container {} had left: {}", self, name, strays)
        fall_back = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        message = termination_message(self._folders.termination_log(name), log, code, fall_back)
        logger.info("{}: container {} ended with exit code {}", self, name, code)
        state = Terminated(code, "Error" if code else "Completed", message, started_at, self._node.clock())
        self._set(name, state=state, ready=False, started=False)

    async def _until_ended(self, container: Object, command: Command, process: Process) -> int:
        tasks = [
            asyncio.create_task(self._graces[container["name"]].enforce(process)),
            asyncio.create_task(self._probe_all(container, command)),
        ]
        try:
            return await process.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            process.kill()

    async def _pull(self, container: Object) -> spec.Image | None:
        """Retried until the image is there, or the pod is to end (None)."""
        name, image = container["name"], container["image"]
        backoff = PULL_BACKOFF_S
        while True:
            try:
                found = self._node.image(image)
            except ImageMissing as missing:
                problem = str(missing)
            else:
                self._event("Normal", "Pulled", f'Container image "{image}" already present on machine', name)
                return found
            if container.get("imagePullPolicy") == "Never":
                message = f'Container image "{image}" is not present with pull policy of Never'
                self._event("Warning", "ErrImageNeverPull", message, name)
                self._event("Warning", "Failed", "Error: ErrImageNeverPull", name)
                self._set(name, state=Waiting("ErrImageNeverPull", message))
            else:
                problem = f'failed to pull image "{image}": {problem}'
                self._event("Normal", "Pulling", f'Pulling image "{image}"', name)
                self._event("Warning", "Failed", f'Failed to pull image "{image}": {problem}', name)
                self._event("Warning", "Failed", "Error: ErrImagePull", name)
                self._set(name, state=Waiting("ErrImagePull", problem))
                if await self._stopped_within(RETRY_S):
                    return None
                message = f'Back-off pulling image "{image}"'
                self._event("Normal", "BackOff", message, name)
                self._event("Warning", "Failed", "Error: ImagePullBackOff", name)
                self._set(name, state=Waiting("ImagePullBackOff", f"{message}: ErrImagePull: {problem}"))
            if await self._stopped_within(backoff):
                return None
            backoff = min(PULL_BACKOFF_MAX_S, backoff * 2)

    async def _configure(self, container: Object, image: spec.Image) -> Command | None:
        """Retried until everything it refers to is there, or the pod is to end (None)."""
        while not self._stopping.is_set():
            try:
                sources = await self._sources()
                return spec.command(
                    self._pod, container, image, sources, self._node.host, self._known.pod_ip or "", self._folders
                )
            except ConfigError as error:
                self._event("Warning", "Failed", f"Error: {error}", container["name"])
                self._set(container["name"], state=Waiting("CreateContainerConfigError", str(error)))
            except ApiError as error:
                logger.warning("{}: {}", self, error)
            await self._stopped_within(RETRY_S)
        return None

    async def _probe_all(self, container: Object, command: Command) -> None:
        name = container["name"]
        if startup := container.get("startupProbe"):
            await self._ask_until_started(startup, container, command)
            self._set(name, started=True, ready="readinessProbe" not in container)

        def ready(says: bool) -> None:
            self._set(name, ready=says)

        def alive(says: bool) -> None:
            if not says:
                self._unhealthy("liveness", container["livenessProbe"], name)

        async with asyncio.TaskGroup() as group:
            if readiness := container.get("readinessProbe"):
                group.create_task(self._ask("Readiness", readiness, container, command, ready))
            if liveness := container.get("livenessProbe"):
                group.create_task(self._ask("Liveness", liveness, container, command, alive))

    async def _ask_until_started(self, startup: Object, container: Object, command: Command) -> None:
        started = asyncio.Event()

        def said(success: bool) -> None:
            if success:
                started.set()
            else:
                self._unhealthy("startup", startup, container["name"])

        asking = asyncio.create_task(self._ask("Startup", startup, container, command, said))
        try:
            await started.wait()
        finally:
            asking.cancel()

    async def _ask(
        self, kind: str, asked: Object, container: Object, command: Command, said: Callable[[bool], None]
    ) -> None:
        name, pod_ip = container["name"], self._known.pod_ip or ""

        def question() -> Awaitable[str | None]:
            return probe.ask(asked, container, pod_ip, command)

        def failed(what: str) -> None:
            self._event("Warning", "Unhealthy", f"{kind} probe failed: {what}", name)

        await probe.repeat(asked, question, said, failed)

    def _unhealthy(self, kind: str, asked: Object, name: str) -> None:
        grace = self._graces[name]
        # A pod that ends already is not judged; nor is a container twice.
        if not grace.begun:
            self._event("Normal", "Killing", f"Container {name} failed {kind} probe", name)
            grace.shorten(max(MIN_GRACE_S, float(asked.get("terminationGracePeriodSeconds", self._grace()))))

    # What is known, and telling it.

    def _set(self, name: str, **changes: object) -> None:
        containers = self._known.containers
        self._know(containers=tuple(replace(c, **changes) if c.name == name else c for c in containers))  # type: ignore[arg-type]

    def _know(self, **changes: object) -> None:
        known = replace(self._known, **changes)  # type: ignore[arg-type]
        if known != self._known:
            self._known = known
            self._written.clear()
            self._dirty.set()

    async def _publish(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            await self._write()
            if not self._dirty.is_set():
                self._written.set()

    async def _write(self) -> None:
        delay = 0.1
        while not self._removed.is_set():
            try:
                await self._write_once()
                return
            except NotFound:
                self.removed()
            except Refused as error:
                logger.error("{}: the API server refused its status: {}", self, error)
                return
            except ApiError as error:
                logger.warning("{}: its status will be written again in {:.1f} s: {}", self, delay, error)
                await asyncio.sleep(delay)
                delay = min(WRITE_BACKOFF_MAX_S, delay * 2)

    async def _write_once(self) -> None:
        pod = self._pod
        wanted = status.pod_status(pod, self._known, self._node.clock())
        if wanted == pod.get("status"):
            return
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": self.uid},
            # Others write conditions too (eviction, taints): never over something not seen.
            {"op": "test", "path": "/metadata/resourceVersion", "value": pod["metadata"]["resourceVersion"]},
            {"op": "add", "path": "/status", "value": wanted},
        ]
        try:
            self.update(await self._node.kube.json_patch(PODS, self.namespace, self.name, patch, sub="status"))
        except Conflict:
            fresh = await self._node.kube.get(PODS, self.namespace, self.name)
            if fresh["metadata"]["uid"] != self.uid:
                self.removed()
                return
            self.update(fresh)
            self._dirty.set()

    async def _delete(self) -> None:
        """Let go of the object, now that its status is final."""
        while not self._removed.is_set():
            try:
                await self._node.kube.delete(PODS, self.namespace, self.name, self.uid, grace_s=0)
                return
            except Unavailable as error:
                logger.warning("{} can't be deleted yet: {}", self, error)
                await asyncio.sleep(RETRY_S)

    def _event(self, kind: str, reason: str, message: str, container: str | None = None) -> None:
        self._node.recorder.pod(self._pod, kind, reason, message, container)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"
