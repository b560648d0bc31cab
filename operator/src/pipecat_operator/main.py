"""The operator's process: settings, Lease, cache, watches, queue, and an end that hands over."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import uuid
from collections.abc import Coroutine, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import kopf
from loguru import logger

from pipecat_operator import bots, handlers, health, logs, names
from pipecat_operator.act import Actor
from pipecat_operator.api import BotSession
from pipecat_operator.cache import Cache
from pipecat_operator.causes import Causes
from pipecat_operator.daily import Daily
from pipecat_operator.installation import installation_id
from pipecat_operator.kube import JOBS, PODS, ApiError, Kube, bear_deep_json
from pipecat_operator.lease import OVERDUE, LeadershipLost, Lease
from pipecat_operator.loop import KeyedQueue
from pipecat_operator.metrics import Metrics
from pipecat_operator.reconcile import Reconciler
from pipecat_operator.rooms import RoomDeleter
from pipecat_operator.settings import Settings, SettingsError, load
from pipecat_operator.sweep import SessionLister, resync, sweep
from pipecat_operator.turns import AskingSelector, event_loop
from pipecat_operator.watch import Reflector

INSTALLATION_AGAIN_S = 1.0
EX_CONFIG = 78
"""sysexits.h: configuration error."""

WATCH_AGAIN_S = 5.0


@dataclass(slots=True)
class Readiness:
    """What /readyz answers."""

    missing: str | None = "not connected yet"

    def __call__(self) -> str | None:
        return self.missing


def now() -> datetime:
    """The wall clock; the one place that reads it."""
    return datetime.now(UTC)


async def run(settings: Settings, turns: AskingSelector) -> int:
    """Until SIGTERM (answers 0) or until leadership is lost or something unforeseen happens (answers 1)."""
    code = 0
    metrics, readiness, stop = Metrics(), Readiness(), asyncio.Event()
    _stop_on_signals(stop)
    listening = await health.serve(settings.http_host, settings.http_port, metrics, readiness)
    logger.info("Listening on {}", ", ".join(f"{host}:{port}" for host, port, *_ in listening.addresses))
    unguarded = Kube()
    namespace = settings.namespace or unguarded.default_namespace or "default"
    lease = Lease(unguarded, namespace, names.LEASE, f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}")
    turns.ask = partial(_end_former_leader, lease)
    try:
        readiness.missing = None
        leading = await _unless_stopped(lease.acquire(), stop)
        if leading:
            await _with_clients(settings, metrics, readiness, stop, lease, namespace)
    except* LeadershipLost as lost:
        logger.error("Leadership lost, ending at once: {}", _first(lost))
        code = 1
    except* Exception as failed:
        logger.opt(exception=failed).error("Ending, another takes over: {}", _first(failed))
        code = 1
    finally:
        await lease.release()
        await unguarded.close()
        await listening.cleanup()
    return code


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    """The first cause, out of however many groups."""
    cause: BaseException = group.exceptions[0]
    return _first(cause) if isinstance(cause, BaseExceptionGroup) else cause


def _end_former_leader(lease: Lease) -> None:
    """Not by an exception: nothing of a former leader may go on, not even its cleaning up."""
    if lease.overdue:
        logger.error("Leadership lost, ending at once: {}", OVERDUE)
        os._exit(1)


async def _with_clients(
    settings: Settings,
    metrics: Metrics,
    readiness: Readiness,
    stop: asyncio.Event,
    lease: Lease,
    namespace: str,
) -> None:
    readiness.missing = "the caches are not filled yet: the log says what can't be listed"
    kube = Kube(guard=lease.check)
    daily = Daily(settings, metrics, guard=lease.check, clock=now)
    try:
        async with asyncio.TaskGroup() as group:
            holding = group.create_task(lease.hold())
            installation = settings.installation_id or await _installation(kube, namespace, stop)
            if installation:
                await _lead(settings, metrics, readiness, stop, kube, daily, installation)
            holding.cancel()
    finally:
        await daily.close()
        await kube.close()


async def _installation(kube: Kube, namespace: str, stop: asyncio.Event) -> str | None:
    """As soon as it can be read or made; None: stopped before."""
    while not stop.is_set():
        try:
            return await installation_id(kube, namespace)
        except ApiError as error:
            logger.warning("The installation id can't be read or made yet: {}", error)
            await asyncio.sleep(INSTALLATION_AGAIN_S)
    return None


async def _lead(
    settings: Settings,
    metrics: Metrics,
    readiness: Readiness,
    stop: asyncio.Event,
    kube: Kube,
    daily: Daily,
    installation: str,
) -> None:
    """Everything only the leader does, until stopped."""
    rooms = RoomDeleter(daily, now)
    cache: Cache
    queue: KeyedQueue

    def changed(uid: str) -> None:
        queue.add(uid)

    def over(session: BotSession) -> None:
        if cache.may_have_room(session.metadata.uid):
            actor.delete_room(session)
        if session.status.end_reason and session.status.phase and session.status.phase.finished:
            metrics.ended(session.status.end_reason)

    def failed(uid: str, error: Exception) -> None:
        if isinstance(error, LeadershipLost):
            raise error
        metrics.reconcile_failed(type(error.__cause__ or error).__name__)
        logger.warning("Session {} will be tried again: {}", uid, error)

    cache = Cache(changed=changed, over=over, clock=now)
    causes = Causes(kube)
    actor = Actor(kube, daily, cache, rooms, causes, installation, now)
    queue = KeyedQueue(Reconciler(cache, actor, metrics, now), failed)

    namespaces = settings.watch_namespaces
    managed = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    missed = asyncio.Event()

    def jobs_listed(namespace: str | None, there: Set[str]) -> None:
        cache.retain_jobs(namespace, there)
        # What made this watch begin again cost kopf's watches events, too; its lists don't tell what is gone.
        missed.set()

    jobs = Reflector(kube, JOBS, namespaces, cache.apply_job, jobs_listed, managed)
    pods = Reflector(kube, PODS, namespaces, cache.apply_pod, cache.retain_pods, managed)
    lister = SessionLister(kube, namespaces)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job) for job in (jobs.run(), pods.run())]
        # Jobs and Pods first: no decision may rest on a session without them.
        if await _unless_stopped(_filled(jobs, pods, lister, cache), stop):
            readiness.missing = None
            # Not before: who alerts on a leader that serves nobody looks for these.
            metrics.watch_gauges(cache.phases, queue.__len__, rooms.__len__, lambda: len(asyncio.all_tasks()))
            missed.clear()
            logger.info("Ready: installation {}, watching {}", installation, ", ".join(namespaces) or "all namespaces")
            work: list[Coroutine[Any, Any, None]] = [
                queue.run(settings.workers),
                rooms.run(),
                bots.keep_status(kube, cache, now),
                resync(lister, cache, settings.resync_seconds, missed, queue.add),
                sweep(daily, lister, rooms, installation, settings.sweep_seconds, now),
            ]
            tasks += [group.create_task(job) for job in work]
            # Cancelled and not asked to stop by its flag: kopf then first waits 5 s for every task of the loop, and
            # ours don't end by themselves.
            await _unless_stopped(_watch(cache, namespaces, missed, stop), stop)
        for task in tasks:
            task.cancel()
        await causes.close()


async def _filled(jobs: Reflector, pods: Reflector, lister: SessionLister, cache: Cache) -> None:
    await jobs.synced.wait()
    await pods.synced.wait()
    while True:
        try:
            await lister.refill(cache)
        except ApiError as error:
            logger.warning(
                "Bots and BotSessions can't be listed yet (are the CRDs installed, may we list them?): {}", error
            )
            await asyncio.sleep(2)
        else:
            return


async def _watch(cache: Cache, namespaces: Sequence[str], missed: asyncio.Event, stop: asyncio.Event) -> None:
    """kopf until it is stopped, begun again when it gives up: it does when a watch is refused, as without its CRD."""
    while True:
        try:
            await kopf.operator(
                # It puts its own handlers of signals in place of ours as it starts.
                registry=handlers.registry(cache, started=partial(_stop_on_signals, stop)),
                settings=handlers.settings(),
                standalone=True,
                # It would be made of the user's name, and a container's user may have none.
                identity=cast(Any, names.MANAGED_BY),
                clusterwide=not namespaces,
                namespaces=namespaces,
            )
            return
        # Its errors are of private types, and none of them is a reason to stop serving.
        except Exception as error:
            logger.error(
                "BotSessions and Bots can't be watched (are the CRDs installed, may we watch them?), "
                "the next try is in {:.0f} s: {}",
                WATCH_AGAIN_S,
                error,
            )
        await asyncio.sleep(WATCH_AGAIN_S)
        missed.set()


async def _unless_stopped(wanted: Coroutine[Any, Any, None], stop: asyncio.Event) -> bool:
    """Whether it was done before the stop."""
    task, stopped = asyncio.ensure_future(wanted), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        return task.done()
    finally:
        for future in (task, stopped):
            future.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await future


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def main() -> None:
    """``python -m pipecat_operator``."""
    try:
        settings = load()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EX_CONFIG)
    logs.configure(settings.log_level, settings.log_format)
    bear_deep_json()
    turns = AskingSelector()
    with asyncio.Runner(loop_factory=partial(event_loop, turns)) as runner:
        code = runner.run(run(settings, turns))
    logger.complete()
    # Not sys.exit: nothing of a former leader may linger.
    os._exit(code)
