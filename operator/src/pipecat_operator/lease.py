"""One leader: a Lease held around the whole run, and a guard that stops a leader who may no longer be one.

The rules and timings are client-go's leader election (lease 15 s, renew deadline 10 s, retry 2 s). The
``kubernetes`` package has the same, but renews through its own client: 56 MB of imports, and no way to ask
before a write how old the lease is.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

from loguru import logger

from pipecat_operator.kube import LEASES, ApiError, Conflict, Kube, NotFound, Object, Unavailable

LEASE_S: Final = 15
RENEW_DEADLINE_S: Final = 10.0
RETRY_S: Final = 2.0
TRY_S: Final = 3.0
"""A connection gone silent must cost one try, not a takeover's 30 s."""
RENEW_TRY_S: Final = RENEW_DEADLINE_S / 2
"""A slow API server is waited for; a connection gone silent leaves time for another."""
OVERDUE: Final = f"the Lease was not renewed within {RENEW_DEADLINE_S:.0f} s"

Clock = Callable[[], float]


def uptime() -> float:
    """Seconds on a clock that also runs while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeadershipLost(Exception):
    """The Lease is, or may be, somebody else's: nothing more may be written."""


class Lease:
    """The Lease ``name`` in ``namespace``, held as ``identity``."""

    def __init__(self, kube: Kube, namespace: str, name: str, identity: str, clock: Clock = uptime) -> None:
        """``kube`` must be unguarded: its writes are what the guard of every other client depends on."""
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed_at: float | None = None
        self._stored: Object | None = None
        """As our last write left it."""
        self._seen: tuple[str, str, int] | None = None
        self._seen_at = clock()
        self._lasts_s = float(LEASE_S)

    @property
    def overdue(self) -> bool:
        """It was ours, and the last renewal is older than the renew deadline: another may lead by now."""
        return self._age() > RENEW_DEADLINE_S

    def check(self) -> None:
        """Called before every request of a leader, and once that has its connection.

        Raises:
            LeadershipLost: it is overdue, or not ours.
        """
        if self._renewed_at is None or self.overdue:
            raise LeadershipLost(OVERDUE)

    def _age(self) -> float:
        """Seconds since the last renewal was sent; 0: it is not ours."""
        return 0.0 if self._renewed_at is None else self._clock() - self._renewed_at

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._try_once():
            runs_out = self._runs_out_in()
            await asyncio.sleep(runs_out if 0 < runs_out < RETRY_S else RETRY_S)
        logger.info("Leading as {}", self._identity)

    async def hold(self) -> None:
        """Renew until leadership is lost.

        Raises:
            LeadershipLost: somebody else has it, or it could not be renewed in time.
        """
        began, timeout_s = self._clock(), RENEW_TRY_S
        while True:
            await asyncio.sleep(max(0.0, began + RETRY_S - self._clock()))
            self.check()
            began = self._clock()
            if await self._try_once(timeout_s):
                timeout_s = RENEW_TRY_S
            else:
                self.check()
                # All the time there is.
                timeout_s = RENEW_DEADLINE_S - self._age()

    async def release(self) -> None:
        """Hand over at once: let the next one take the Lease without waiting for its end."""
        ours = self._renewed_at is not None and not self.overdue
        self._renewed_at = None
        if not ours:
            return
        try:
            async with _one_try(TRY_S):
                lease = await self._kube.get(LEASES, self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await self._kube.replace(LEASES, self._namespace, self._name, lease)
        except ApiError as error:
            logger.warning("The Lease was not released, it will run out by itself: {}", error)

    async def _try_once(self, timeout_s: float = TRY_S) -> bool:
        """Take or renew; False when it is somebody else's, or that could not be told or written now."""
        # The age counts from before the call: the answer may take long.
        asked_at = self._clock()
        try:
            async with _one_try(timeout_s):
                taken = await self._take()
        except ApiError as error:
            logger.warning("Lease: {}", error)
            return False
        if taken:
            self._renewed_at = asked_at
        elif self._renewed_at is not None:
            self._renewed_at = None
            raise LeadershipLost("another holds the Lease")
        return taken

    async def _take(self) -> bool:
        if self._stored is not None:
            # As it was when we wrote it: nobody has written since, or this is refused.
            renewed, self._stored = self._stored, None
            with contextlib.suppress(Conflict):
                renewed["spec"] = self._spec(renewed["spec"])
                self._stored = await self._kube.replace(LEASES, self._namespace, self._name, renewed)
                return True
        return await self._read_and_take()

    async def _read_and_take(self) -> bool:
        try:
            lease = await self._kube.get(LEASES, self._namespace, self._name)
        except NotFound:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec({}),
            }
            self._stored = await self._kube.create(LEASES, self._namespace, body)
            return True
        spec = lease.get("spec") or {}
        if not self._may_take(spec):
            return False
        lease["spec"] = self._spec(spec)
        self._stored = await self._kube.replace(LEASES, self._namespace, self._name, lease)
        return True

    def _may_take(self, spec: Object) -> bool:
        """Ours, nobody's, or unchanged for its whole duration on our own clock (never on theirs)."""
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        seen = (holder, str(spec.get("renewTime")), int(spec.get("leaseTransitions") or 0))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
            self._lasts_s = float(spec.get("leaseDurationSeconds") or LEASE_S)
        return self._runs_out_in() <= 0

    def _runs_out_in(self) -> float:
        """Seconds until a Lease that somebody else holds, and no longer renews, may be taken."""
        return self._seen_at + self._lasts_s - self._clock()

    def _spec(self, before: Object) -> Object:
        held = before.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_S,
            "acquireTime": before.get("acquireTime") if held else _now(),
            "renewTime": _now(),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if held else 1),
        }


@contextlib.asynccontextmanager
async def _one_try(timeout_s: float) -> AsyncIterator[None]:
    """Raises Unavailable when the block takes longer. What it sent may yet be done, but never over another's write."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable(0, "Timeout", f"no answer within {timeout_s:.0f} s") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
