"""One session once: observe, decide, act, status."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from loguru import logger

from pipecat_operator import decide as decisions
from pipecat_operator.act import TRANSIENT, Actor, StartDelayed, StartFailed
from pipecat_operator.advice import advised
from pipecat_operator.api import BotSession, BotSessionStatus
from pipecat_operator.cache import Cache
from pipecat_operator.conclude import Conclusion
from pipecat_operator.conditions import EndReason, Phase
from pipecat_operator.daily import DailyError
from pipecat_operator.decide import Look, Plan, decide
from pipecat_operator.kube import ApiError, NotFound, OtherObject, Refused, Unavailable
from pipecat_operator.loop import Retry
from pipecat_operator.metrics import Metrics
from pipecat_operator.observe import Observed, Trouble


class Reconciler:
    """Brings one session a step further at each call."""

    def __init__(self, cache: Cache, actor: Actor, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._cache = cache
        self._actor = actor
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, uid: str) -> float | None:
        """Seconds until this session wants to be looked at again, or None: when something happens."""
        finished = self._cache.finished(uid)
        if finished is not None:
            remaining = (finished.expires_at - self._clock()).total_seconds()
            if remaining > 0:
                return remaining
            await self._actor.delete_session(uid, finished.namespace, finished.name)
            logger.info("Session {} removed: its TTL is over", uid)
            return None
        observed = self._cache.observed(uid)
        if observed is None:
            return None
        try:
            wake_at = await self._step(observed)
        except (NotFound, OtherObject) as error:
            if await self._actor.session_exists(observed.session):
                raise Retry(f"refused, though it is there: {error}", call=error.call) from error
            self._forget(observed.session)
            return None
        except (Retry, ApiError):
            # A finished one has an end whose answer was lost, and a TTL to come.
            if self._cache.observed(uid) or self._cache.finished(uid):
                raise
            self._forget(observed.session)
            return None
        return self._until(wake_at)

    def _until(self, at: datetime | None) -> float | None:
        return None if at is None else max(0.0, (at - self._clock()).total_seconds())

    def _forget(self, session: BotSession) -> None:
        """It was deleted while we worked on it: its room may be younger than what the watch told of its end."""
        logger.info("Session {} is gone", session.metadata.uid)
        self._actor.delete_room(session)
        self._cache.drop(session.metadata.uid)

    async def _step(self, observed: Observed) -> datetime | None:
        plan = await self._decide(observed)
        await self._carry_out(observed, plan)
        return plan.wake_at

    async def _carry_out(self, observed: Observed, plan: Plan) -> None:
        if plan.status is not None:
            await self._write(observed.session, plan.status)
        if plan.event is not None:
            await self._actor.warn(observed.session, plan.event)
        if plan.terminate:
            await self._actor.terminate(observed)
        if plan.start:
            await self._start(observed, plan.wake_at)

    async def _decide(self, observed: Observed) -> Plan:
        """A decision may first want to know more than the cache holds."""
        now = self._clock()
        plan = decide(observed, now)
        if plan.look is Look.SLOT:
            full = self._cache.take_slot(observed.session.metadata.uid)
            return decide(replace(observed, needs_slot=False, full=full), now)
        if plan.look is Look.JOB:
            observed = replace(observed, job_is_gone=await self._actor.job_is_gone(observed.session))
            return decide(observed, self._clock())
        if plan.look is Look.POD:
            pod = await self._actor.find_pod(observed)
            return decide(replace(observed, pod=pod, pod_looked_for=True), self._clock())
        if plan.look is Look.CAUSE:
            try:
                cause = await self._actor.find_cause(observed)
            except Unavailable:
                if not decisions.has_waited_long(observed, self._clock()):
                    raise
                cause = None
            return decide(replace(observed, cause=cause, cause_looked_for=True), self._clock())
        return plan

    async def _start(self, observed: Observed, deadline: datetime | None) -> None:
        session, uid = observed.session, observed.session.metadata.uid
        try:
            wanted = await self._actor.start(observed)
        except StartDelayed as delayed:
            self._cache.start_failed(uid, Trouble(delayed.reason, delayed.message, self._clock()))
            raise Retry(delayed.message, within=self._until(deadline)) from delayed
        except StartFailed as failed:
            self._cache.start_failed(uid, None)
            why = Conclusion(failed.reason, advised(failed.reason, failed.message))
            await self._carry_out(observed, decisions.give_up(observed, why, self._clock()))
            return
        except TRANSIENT as error:
            reason = EndReason.ROOM_FAILED if isinstance(error, DailyError) else EndReason.START_TIMEOUT
            self._cache.start_failed(uid, Trouble(reason, str(error), self._clock()))
            raise Retry(str(error), error.retry_after, self._until(deadline), error.call) from error
        self._cache.start_failed(uid, None)
        await self._write(session, wanted)
        self._metrics.job_created((self._clock() - observed.seen_at).total_seconds())

    async def _write(self, session: BotSession, wanted: BotSessionStatus) -> None:
        """Write the status, and tell of a change of phase."""
        # Read what decide saw now: finishing drops it from the cache.
        observed = self._cache.observed(session.metadata.uid)
        try:
            await self._actor.write_status(session, wanted)
        except Refused as refused:
            if wanted.phase is None or not wanted.phase.finished or refused.lacks_a_right:
                raise
            logger.warning("Session {}: its end is told by an event only: {}", session.metadata.uid, refused)
            self._cache.end_untold(session, wanted)
        before = session.status.phase or Phase.PENDING
        if wanted.phase is before or wanted.phase is None:
            return
        logger.info(
            "Session {} {}/{}: {} -> {}{}",
            session.metadata.uid,
            session.metadata.namespace,
            session.metadata.name,
            before,
            wanted.phase,
            f", {wanted.end_reason}: {wanted.message}" if wanted.end_reason else "",
        )
        if wanted.phase is Phase.RUNNING and observed and wanted.joined_at:
            self._metrics.joined((wanted.joined_at - observed.seen_at).total_seconds())
