"""One pod's life on the node: prepare, run, end."""

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from loguru import logger

from pipecat_local.node import probe, spec, status, volumes
from pipecat_local.node.machine import ImageMissing, Machine
from pipecat_local.node.process import Grace, Process, kill_strays, termination_message
from pipecat_local.node.spec import Command, ConfigError, Folders, MountError
from pipecat_local.node.status import Container, Known, Running, Terminated, Verdict, Waiting
from pipecat_local.node.writer import Writer
from pipecat_operator.kube import ApiError, Object

MIN_GRACE_S: Final = 2.0
"""kubelet's: even a force-deleted pod gets that long."""

SHUTDOWN_GRACE_S: Final = 5.0
RETRY_S: Final = 2.0
"""Between looks at what was missing; kubelet takes up to 10 s."""

PULL_BACKOFF_S: Final = 10.0
PULL_BACKOFF_MAX_S: Final = 300.0
START_ERROR: Final = 128

DEADLINE: Final = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
SHUTDOWN: Final = Verdict("Terminated", "Pod was terminated in response to imminent node shutdown.", disruption=True)


class Pod:
    """One pod bound to the node, by UID."""

    def __init__(self, machine: Machine, pod: Object) -> None:
        self._machine = machine
        metadata = pod["metadata"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        self.uid: str = metadata["uid"]
        self._folders = Folders(machine.folder / "pods" / self.uid)
        stored = pod.get("status") or {}
        started_at = status.parsed(stored["startTime"]) if stored.get("startTime") else machine.clock()
        self._writer = Writer(machine.kube, machine.clock, pod, Known(machine.host.ip, started_at))
        self._graces: dict[str, Grace] = {}
        self._stopping = asyncio.Event()
        self._to_delete = asyncio.Event()
        self._observe(pod)

    # What the outside tells.

    def update(self, pod: Object) -> None:
        """The object changed."""
        if self._writer.seen(pod):
            self._observe(pod)

    def removed(self) -> None:
        """The object is gone from the API server: nobody will read a status any more."""
        self._writer.removed.set()
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
        return self._writer.removed.is_set()

    @property
    def over(self) -> bool:
        """Whether no container runs or will."""
        return all(status.ended(container.state) for container in self._writer.known.containers)

    def log(self, container: str) -> Path | None:
        """Where that container's output is, if the pod has one of that name."""
        names = [entry["name"] for entry in self._writer.pod["spec"]["containers"]]
        return self._machine.log(self._writer.pod, container) if container in names else None

    def _observe(self, pod: Object) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            self._to_delete.set()
            self._stop(max(MIN_GRACE_S, float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)))

    def _grace(self) -> float:
        return float(self._writer.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _fail(self, verdict: Verdict) -> None:
        if self._writer.known.verdict is None and any(not status.ended(c.state) for c in self._writer.known.containers):
            self._writer.note(replace(self._writer.known, verdict=verdict))

    def _stop(self, grace_s: float) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            for container in self._writer.known.containers:
                if isinstance(container.state, Running):
                    self._event("Normal", "Killing", f"Stopping container {container.name}", container.name)
        for grace in self._graces.values():
            grace.shorten(grace_s)

    # Its life.

    async def run(self) -> None:
        """From binding to removal."""
        publisher = asyncio.create_task(self._writer.run())
        try:
            if not status.terminal(self._writer.pod):
                try:
                    await self._live()
                except Exception:
                    # Without an end its Job would wait for ever.
                    logger.exception("{} is given up: the node failed it", self)
                    self._give_up()
            await self._to_delete.wait()
            await self._writer.told()
            if self._writer.pod["metadata"].get("deletionTimestamp") and not self._writer.removed.is_set():
                await self._writer.delete()
        finally:
            publisher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publisher

    async def _live(self) -> None:
        asked = spec.unsupported(self._writer.pod)
        if status.was_started(self._writer.pod):
            logger.warning("{} was running on an earlier process of this node and is lost", self)
            self._tell(containers=status.restored(self._writer.pod))
        elif asked:
            message = f"Pod was rejected: the process node can't give it {'; '.join(asked)}"
            self._event("Warning", "NotSupported", message)
            self._tell(verdict=Verdict("NotSupported", message), rejected=True)
        else:
            await self._prepare_and_run()

    async def _prepare_and_run(self) -> None:
        specs = self._writer.pod["spec"]["containers"]
        self._graces = {entry["name"]: Grace() for entry in specs}
        self._tell(containers=tuple(Container(entry["name"], entry["image"]) for entry in specs))
        deadline = self._writer.pod["spec"].get("activeDeadlineSeconds")
        timer = asyncio.create_task(self._end_at(deadline)) if deadline is not None else None
        address = self._machine.addresses.take()
        try:
            if not self._stopping.is_set() and await self._set_up_volumes(address):
                self._writer.note(replace(self._writer.known, pod_ip=address))
                async with asyncio.TaskGroup() as group:
                    for entry in specs:
                        group.create_task(self._run_container(entry))
        finally:
            if timer:
                timer.cancel()
            self._machine.addresses.release(address)
            await asyncio.to_thread(shutil.rmtree, self._folders.root, ignore_errors=True)
        self._give_up()

    def _give_up(self) -> None:
        self._tell(containers=tuple(status.give_up(container) for container in self._writer.known.containers))

    async def _end_at(self, deadline_s: float) -> None:
        ends = self._writer.known.started_at + timedelta(seconds=deadline_s)
        await asyncio.sleep((ends - self._machine.clock()).total_seconds())
        self._event("Normal", DEADLINE.reason, DEADLINE.message)
        self._fail(DEADLINE)
        self._stop(self._grace())

    async def _set_up_volumes(self, pod_ip: str) -> bool:
        """Retried until it is done (True) or the pod is to end (False)."""
        machine = self._machine
        while True:
            try:
                sources = await volumes.sources(machine.kube, self._writer.pod)
                await asyncio.to_thread(volumes.write, self._writer.pod, self._folders, sources, machine.host, pod_ip)
            except MountError as error:
                self._event("Warning", "FailedMount", str(error))
            except (ApiError, OSError) as error:
                logger.warning("{}: its volumes can't be set up yet: {}", self, error)
            else:
                return not self._stopping.is_set()
            if await self._stopped_within(RETRY_S):
                return False

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
        log = self._machine.log(self._writer.pod, name)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            process = Process(command, log)
        except (OSError, ValueError) as error:
            message = f"failed to start container: exec {command.argv[0]!r} in {command.cwd}: {error}"
            self._event("Warning", "Failed", f"Error: {message}", name)
            now = self._machine.clock()
            self._writer.set(name, state=Terminated(START_ERROR, "StartError", message, now, now))
            return
        self._event("Normal", "Created", "Container created", name)
        self._event("Normal", "Started", "Container started", name)
        logger.info("{}: container {} runs as process {}, its output goes to {}", self, name, process.pid, log)
        started_at = self._machine.clock()
        self._writer.set(
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
        state = Terminated(code, "Error" if code else "Completed", message, started_at, self._machine.clock())
        self._writer.set(name, state=state, ready=False, started=False)

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
                found = self._machine.image(image)
            except ImageMissing as missing:
                problem = str(missing)
            else:
                self._event("Normal", "Pulled", f'Container image "{image}" already present on machine', name)
                return found
            if container.get("imagePullPolicy") == "Never":
                message = f'Container image "{image}" is not present with pull policy of Never'
                self._event("Warning", "ErrImageNeverPull", message, name)
                self._event("Warning", "Failed", "Error: ErrImageNeverPull", name)
                self._writer.set(name, state=Waiting("ErrImageNeverPull", message))
            else:
                problem = f'failed to pull image "{image}": {problem}'
                self._event("Normal", "Pulling", f'Pulling image "{image}"', name)
                self._event("Warning", "Failed", f'Failed to pull image "{image}": {problem}', name)
                self._event("Warning", "Failed", "Error: ErrImagePull", name)
                self._writer.set(name, state=Waiting("ErrImagePull", problem))
                if await self._stopped_within(RETRY_S):
                    return None
                message = f'Back-off pulling image "{image}"'
                self._event("Normal", "BackOff", message, name)
                self._event("Warning", "Failed", "Error: ImagePullBackOff", name)
                self._writer.set(name, state=Waiting("ImagePullBackOff", f"{message}: ErrImagePull: {problem}"))
            if await self._stopped_within(backoff):
                return None
            backoff = min(PULL_BACKOFF_MAX_S, backoff * 2)

    async def _configure(self, container: Object, image: spec.Image) -> Command | None:
        """Retried until everything it refers to is there, or the pod is to end (None)."""
        machine, pod = self._machine, self._writer.pod
        while not self._stopping.is_set():
            try:
                sources = await volumes.sources(machine.kube, pod)
                return spec.command(pod, container, image, sources, machine.host, self._pod_ip, self._folders)
            except ConfigError as error:
                self._event("Warning", "Failed", f"Error: {error}", container["name"])
                self._writer.set(container["name"], state=Waiting("CreateContainerConfigError", str(error)))
            except ApiError as error:
                logger.warning("{}: {}", self, error)
            await self._stopped_within(RETRY_S)
        return None

    async def _probe_all(self, container: Object, command: Command) -> None:
        name = container["name"]
        if startup := container.get("startupProbe"):
            await self._ask_until_started(startup, container, command)
            self._writer.set(name, started=True, ready="readinessProbe" not in container)

        def ready(says: bool) -> None:
            self._writer.set(name, ready=says)

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
        name, pod_ip = container["name"], self._pod_ip

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

    def _tell(self, **changes: object) -> None:
        self._writer.tell(replace(self._writer.known, **changes))  # type: ignore[arg-type]

    @property
    def _pod_ip(self) -> str:
        return self._writer.known.pod_ip or ""

    def _event(self, kind: str, reason: str, message: str, container: str | None = None) -> None:
        self._machine.recorder.pod(self._writer.pod, kind, reason, message, container)

    def __str__(self) -> str:
        return f"pod {self.namespace}/{self.name}"
