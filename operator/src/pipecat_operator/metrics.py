"""What /metrics tells. One registry for a process, passed in."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipecat_operator.conditions import EndReason, Phase

DAILY_OPERATIONS = ("create_room", "get_room", "delete_room", "list_rooms", "create_token", "get_domain")
START_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 180, 300)


class Metrics:
    """The operator's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Memory, CPU and open files of this process, under Prometheus' own names.
        ProcessCollector(registry=self.registry)
        self._ended = Counter(
            "pipecat_sessions_ended",
            "Sessions that ended, by phase and end reason.",
            ["phase", "reason"],
            registry=self.registry,
        )
        self._job = Histogram(
            "pipecat_session_job_created_seconds",
            "From the creation of a session to its Job.",
            buckets=START_BUCKETS,
            registry=self.registry,
        )
        self._joined = Histogram(
            "pipecat_session_joined_seconds",
            "From the creation of a session to its bot in the room.",
            buckets=START_BUCKETS,
            registry=self.registry,
        )
        self._daily = Histogram(
            "pipecat_daily_request_seconds",
            "Calls to Daily, by operation and outcome (the HTTP status, or no_answer).",
            ["operation", "outcome"],
            registry=self.registry,
        )
        # A counter that comes into being with its first event has, for increase(), not risen.
        for reason in EndReason:
            self._ended.labels(reason.phase, reason)
        for operation in DAILY_OPERATIONS:
            self._daily.labels(operation, "401")
        self._daily_clock = Gauge(
            "pipecat_daily_clock_ahead_seconds",
            "By how much Daily's clock is ahead of the operator's, at its latest answer.",
            registry=self.registry,
        )
        self._failures = Counter(
            "pipecat_reconcile_failures",
            "Reconciliations that failed and will be tried again, by error.",
            ["error"],
            registry=self.registry,
        )

    def watch_gauges(
        self,
        phases: Callable[[], Mapping[Phase, int]],
        queue_depth: Callable[[], int],
        rooms_to_delete: Callable[[], int],
        tasks: Callable[[], int],
    ) -> None:
        """Gauges are read when scraped, so that nothing keeps them up to date."""
        self.registry.register(_Gauges(phases, queue_depth, rooms_to_delete, tasks))

    def job_created(self, seconds: float) -> None:
        """A session's Job was made."""
        self._job.observe(seconds)

    def joined(self, seconds: float) -> None:
        """A bot is in its room."""
        self._joined.observe(seconds)

    def ended(self, reason: EndReason) -> None:
        """A session ended."""
        self._ended.labels(reason.phase, reason).inc()

    def daily_call(self, operation: str, outcome: str, seconds: float) -> None:
        """A call to Daily was answered, or not."""
        self._daily.labels(operation, outcome).observe(seconds)

    def daily_clock_ahead(self, seconds: float) -> None:
        """Daily told its time."""
        self._daily_clock.set(seconds)

    def reconcile_failed(self, error: str) -> None:
        """A reconciliation will be tried again."""
        self._failures.labels(error).inc()

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    def __init__(
        self,
        phases: Callable[[], Mapping[Phase, int]],
        queue_depth: Callable[[], int],
        rooms_to_delete: Callable[[], int],
        tasks: Callable[[], int],
    ) -> None:
        self._phases = phases
        self._queue_depth = queue_depth
        self._rooms_to_delete = rooms_to_delete
        self._tasks = tasks

    def collect(self) -> list[GaugeMetricFamily]:
        sessions = GaugeMetricFamily("pipecat_sessions", "Sessions there are, by phase.", labels=["phase"])
        counts = self._phases()
        for phase in Phase:
            sessions.add_metric([phase], counts.get(phase, 0))
        return [
            sessions,
            GaugeMetricFamily("pipecat_queue_depth", "Sessions waiting for a worker.", self._queue_depth()),
            GaugeMetricFamily("pipecat_rooms_to_delete", "Rooms waiting to be deleted.", self._rooms_to_delete()),
            GaugeMetricFamily("pipecat_tasks", "Tasks of the operator's event loop.", self._tasks()),
        ]
