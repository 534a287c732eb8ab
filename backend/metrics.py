"""The name, kind, labels and meaning of every metric, and where a process keeps those that nobody else counts.

In: counts where something happens; sources that are read when somebody asks. Out: `Sample`s. By the conventions of Prometheus: base units,
`_total` for what only grows. Every label's values are bounded by our code or by the directory: never a user, an id, an address or a text of
somebody else's. Nothing here waits: what needs an engine is a `slow` source, within a deadline. docs/operations.md has the alerts.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import Enum, StrEnum
from typing import NamedTuple, TypeAlias

import structlog

SOURCE_SECONDS = 3.0  # for a source that needs an engine; Prometheus waits for 10

# Upper ends of a histogram's steps, in seconds.
ANSWERS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOURNEYS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CALLS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)  # the steps of `providers.traffic.BOUNDS_MS`

log = structlog.get_logger()


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(Enum):
    """One a line: name, kind, labels, help, and for a histogram its steps."""

    def __init__(self, full_name: str, kind: Kind, labels: Sequence[str], about: str, bounds: Sequence[float] = ()) -> None:
        self.full_name = full_name
        self.kind = kind
        self.labels = tuple(labels)
        self.about = about
        self.bounds = tuple(bounds)

    # HTTP; `route` is the template, `unmatched` for an address that is none of ours
    HTTP_REQUESTS = ("moa_http_requests_total", Kind.COUNTER, ("method", "route", "status"), "Requests answered.")
    HTTP_SECONDS = (
        "moa_http_request_duration_seconds",
        Kind.HISTOGRAM,
        ("method", "route"),
        "Time from a request to the beginning of its answer; a long poll's own wait is in it.",
        ANSWERS,
    )

    # Registrations
    REGISTRATIONS_ACCEPTED = ("moa_registrations_accepted_total", Kind.COUNTER, (), "Registrations that were answered 202 and were new.")
    REGISTRATIONS_ENDED = ("moa_registrations_ended_total", Kind.COUNTER, ("outcome",), "Runs of registrations that ended, by how.")
    REGISTRATION_SECONDS = (
        "moa_registration_duration_seconds",
        Kind.HISTOGRAM,
        ("outcome",),
        "From a registration's acceptance to its end, the person's signing included.",
        JOURNEYS,
    )
    FIRST_ASSET_SECONDS = (
        "moa_registration_first_asset_seconds",
        Kind.HISTOGRAM,
        (),
        "From a registration's acceptance to its first asset, the person's signing included.",
        JOURNEYS,
    )
    ITEMS_ENDED = (
        "moa_registration_providers_total",
        Kind.COUNTER,
        ("outcome",),
        "Providers of registrations: completed, failed, deferred.",
    )

    # Calls to institutions; `api_code` and `outcome` are of closed catalogues, `outcome` ok, cancelled or a reason
    PROVIDER_CALLS = (
        "moa_provider_calls_total",
        Kind.COUNTER,
        ("org_code", "api_code", "caller", "outcome"),
        "Calls that were made, for a user or scheduled, by how they ended.",
    )
    PROVIDER_SLOW = ("moa_provider_calls_slow_total", Kind.COUNTER, ("org_code",), "Calls whose answer counted as slow to the circuit.")
    PROVIDER_SECONDS = (
        "moa_provider_call_duration_seconds",
        Kind.HISTOGRAM,
        ("org_code",),
        "The institution's time for calls that came to an end; not that in our own line.",
        CALLS,
    )
    PROVIDER_REFUSED = ("moa_provider_calls_refused_total", Kind.COUNTER, ("org_code", "scope"), "Calls that an open circuit refused.")

    # Circuits, as a process believes them; and what the leading coordinator's samples hold
    CIRCUIT_STATE = ("moa_circuit_state", Kind.GAUGE, ("org_code", "scope"), "0 closed, 1 half open, 2 open, as this process was told.")
    CIRCUIT_CALLS = ("moa_circuit_sample_calls", Kind.GAUGE, ("org_code", "scope"), "Calls in the circuit's sample.")
    CIRCUIT_FAILURES = (
        "moa_circuit_failure_ratio",
        Kind.GAUGE,
        ("org_code", "scope"),
        "Failures in the sample, 0 to 1; absent: too few calls.",
    )
    CIRCUIT_LEFT_OUT = (
        "moa_circuit_bad_nodes",
        Kind.GAUGE,
        ("org_code", "scope"),
        "Nodes that fail where all others succeed, and are no witnesses.",
    )
    LEADER = ("moa_leader", Kind.GAUGE, (), "1 in the coordinator that leads.")

    # What nodes say of calls
    OUTCOMES_WAITING = ("moa_outcomes_waiting", Kind.GAUGE, (), "Ended calls that the coordinator was not told of yet.")
    OUTCOMES_DROPPED = (
        "moa_outcomes_dropped_total",
        Kind.COUNTER,
        (),
        "Ended calls that circuits were never told of: the buffer was full.",
    )
    OUTCOMES_UNCOUNTED = (
        "moa_outcomes_uncounted_total",
        Kind.COUNTER,
        (),
        "Calls, or users of calls, that are in no roll-up: there were too many.",
    )

    # Queues, jobs, sweeps
    QUEUE_JOBS = ("moa_queue_jobs", Kind.GAUGE, ("queue", "state"), "Jobs that are due, and those that run or wait for their time (later).")
    QUEUE_OLDEST = ("moa_queue_oldest_seconds", Kind.GAUGE, ("queue",), "For how long the oldest due job has been due.")
    WORKERS = ("moa_workers_alive", Kind.GAUGE, ("queue",), "Workers that were heard of lately.")
    JOBS = ("moa_jobs_total", Kind.COUNTER, ("queue", "job", "outcome"), "Runs of jobs: done, postponed, failed, cancelled, lease_lost.")
    JOB_SECONDS = ("moa_job_duration_seconds", Kind.HISTOGRAM, ("queue", "job"), "Time of one run.", JOURNEYS)
    JOB_WAIT_SECONDS = ("moa_job_wait_seconds", Kind.HISTOGRAM, ("queue", "job"), "From when a job was due to its run.", ANSWERS)
    JOBS_RUNNING = ("moa_jobs_running", Kind.GAUGE, ("queue",), "Jobs in this worker's hands.")
    JOBS_AT_ONCE = ("moa_jobs_running_limit", Kind.GAUGE, ("queue",), "Jobs that this worker takes at once.")
    JOBS_GIVEN_UP = ("moa_jobs_given_up_total", Kind.COUNTER, ("queue", "job"), "Jobs that failed three times by our own fault.")
    LEASES_LOST = ("moa_job_leases_lost_total", Kind.COUNTER, ("queue",), "Runs whose job went to another worker: this one stood still.")
    SWEEP_FOUND = ("moa_sweep_found_total", Kind.COUNTER, ("sweep",), "What sweeps found and mended; of open_work: work that was lost.")
    SWEEP_FAILURES = ("moa_sweep_failures_total", Kind.COUNTER, ("sweep",), "Looks of sweeps that failed.")
    AFTERWARDS = ("moa_afterwards_running", Kind.GAUGE, (), "Hand-overs after an answer that are under way.")
    AFTERWARDS_DROPPED = ("moa_afterwards_dropped_total", Kind.COUNTER, (), "Hand-overs that were left to the sweeper: too many at once.")

    # Sockets and feeds; `transport` is websocket, sse or poll
    SOCKETS = ("moa_sockets", Kind.GAUGE, ("transport",), "Clients that are connected.")
    SOCKETS_OPENED = ("moa_sockets_opened_total", Kind.COUNTER, ("transport",), "Clients that came.")
    SOCKETS_CLOSED = (
        "moa_sockets_closed_total",
        Kind.COUNTER,
        ("transport", "reason"),
        "Clients that left: by our code, or by themselves (client).",
    )
    SLOW_CONSUMERS = ("moa_slow_consumers_total", Kind.COUNTER, ("transport",), "Clients that were closed since they read too slowly.")
    RESUMES = (
        "moa_resumes_total",
        Kind.COUNTER,
        ("transport", "recovered"),
        "Clients that named a position, by whether all after it was there.",
    )
    FEEDS_HEARD = ("moa_feeds_listened", Kind.GAUGE, (), "Feeds that somebody listens to in this process.")
    FEED_REPAIRS = ("moa_feed_repairs_total", Kind.COUNTER, (), "Times that the log was read since the live line had left something out.")
    FEED_LINE = ("moa_feed_line_up", Kind.GAUGE, (), "1 while this process hears live events.")
    FEED_APPENDED = ("moa_feed_events_total", Kind.COUNTER, (), "Events that this process appended to feeds.")
    FEED_GAPS = ("moa_feed_gaps_total", Kind.COUNTER, (), "Appends that had to send what lay before first.")
    OUTBOX = ("moa_outbox_events", Kind.GAUGE, (), "Events that wait to be appended; at most 10,000 are counted.")
    OUTBOX_OLDEST = ("moa_outbox_oldest_seconds", Kind.GAUGE, (), "Age of the oldest of them.")

    # Webhooks; `to`: app (the adopter's own backend) or operators. The oldest are told by every coordinator
    WEBHOOK_ATTEMPTS = (
        "moa_webhook_attempts_total",
        Kind.COUNTER,
        ("to", "outcome"),
        "Calls to receivers: delivered, refused (an answer that is no 2xx), or why there was no answer.",
    )
    WEBHOOK_OLDEST = ("moa_webhook_oldest_seconds", Kind.GAUGE, ("to",), "Age of the oldest delivery that waits; 0: none does.")

    # The weekly batch, in links of the current week, told by every coordinator: what `GET /ops/batch` shows
    BATCH_PLANNED = ("moa_batch_planned_links", Kind.GAUGE, ("org_code",), "Links that today's plan wants read.")
    BATCH_SENT = ("moa_batch_sent_links", Kind.GAUGE, ("org_code",), "Links of this week whose reading has ended, however it did.")
    BATCH_LINKS = ("moa_batch_links", Kind.GAUGE, ("org_code", "status"), "Links of this week: due, done, failed, skipped, unknown.")
    BATCH_PACE = ("moa_batch_pace_links_per_minute", Kind.GAUGE, ("org_code",), "Links that its last minute's command took.")
    BATCH_LAG = ("moa_batch_lag_seconds", Kind.GAUGE, ("org_code",), "By how much it is behind its plan.")
    BATCH_PAUSED = ("moa_batch_paused", Kind.GAUGE, ("org_code",), "1 while an operator holds it.")
    # The same, told by the worker that reads them
    BATCH_LINKS_BEGUN = ("moa_batch_begun_total", Kind.COUNTER, (), "Links that this process began to read.")
    BATCH_LINKS_ENDED = ("moa_batch_ended_total", Kind.COUNTER, ("outcome",), "How they ended: recorded, failed, left, skipped, unknown.")
    BATCH_READING = ("moa_batch_reading_links", Kind.GAUGE, (), "Links that it reads now.")
    BATCH_MISSED = ("moa_batch_missed_chunks_total", Kind.COUNTER, (), "Tenths of a second whose share came too late, and was spread.")

    # Engines and pools
    ENGINE_UP = ("moa_engine_up", Kind.GAUGE, ("engine",), "1 if the engine answered this process within two seconds.")
    DATABASE_CONNECTIONS = ("moa_database_connections", Kind.GAUGE, ("state",), "Connections to PostgreSQL: used, idle.")
    DATABASE_LIMIT = ("moa_database_connections_limit", Kind.GAUGE, (), "The most that this process opens.")
    VALKEY_CONNECTIONS = ("moa_valkey_connections", Kind.GAUGE, ("state",), "Connections to Valkey: used, idle.")
    VALKEY_LIMIT = ("moa_valkey_connections_limit", Kind.GAUGE, (), "The most that this process opens.")
    CERTIFICATE_END = (
        "moa_certificate_not_after_timestamp_seconds",
        Kind.GAUGE,
        ("org_code",),
        "When the certificate that we show to this institution ends, Unix time.",
    )

    # The process; `process` is its name in the data folder
    PROCESS_UP = ("moa_process_up", Kind.GAUGE, ("process",), "1 if this process told its metrics. Only on the page of all processes.")
    LOOP_LAG = (
        "moa_loop_lag_seconds",
        Kind.HISTOGRAM,
        (),
        "By how much a timer of a second woke too late: so long everything in this process stood still.",
        LAGS,
    )
    INFO = ("moa_info", Kind.GAUGE, ("role", "version"), "Always 1.")
    SOURCES_FAILED = ("moa_metrics_sources_failed", Kind.GAUGE, (), "Sources of this page that gave nothing, or not in time.")


class Distribution:
    """A histogram that grows."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # by upper end, the end included; what is above all of them comes last
        self.total = 0.0

    def add(self, value: float) -> None:
        """Takes one value in. One below 0 is a time between two machines whose clocks disagree: its sum may not go back."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Sample(NamedTuple):
    """One figure. `labels` in the metric's order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Distribution


Samples: TypeAlias = Iterable[Sample]


class Metrics:
    """One per process, made in `services.py`: counts what is told here, and knows whom else to ask."""

    def __init__(self) -> None:
        self._values: defaultdict[tuple[Metric, tuple[str, ...]], float] = defaultdict(float)
        self._spread: dict[tuple[Metric, tuple[str, ...]], Distribution] = {}
        self._sources: list[Callable[[], Samples]] = []
        self._slow: list[Callable[[], Awaitable[Samples]]] = []

    def count(self, metric: Metric, *labels: str, by: float = 1) -> None:
        """Adds to a counter."""
        self._values[metric, labels] += by

    def set(self, metric: Metric, *labels: str, to: float) -> None:
        """Says what a gauge shows from now on."""
        self._values[metric, labels] = to

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Adds a value to a histogram."""
        spread = self._spread.get((metric, labels))
        if spread is None:
            spread = self._spread[metric, labels] = Distribution(metric.bounds)
        spread.add(value)

    def watch(self, source: Callable[[], Samples]) -> None:
        """`source` is asked whenever somebody wants to see; it must not wait."""
        self._sources.append(source)

    def watch_slow(self, source: Callable[[], Awaitable[Samples]]) -> None:
        """The same for one that needs an engine; it has `SOURCE_SECONDS`, and what it raises is no reason to show nothing."""
        self._slow.append(source)

    async def samples(self) -> list[Sample]:
        """Everything as it is now; of two that say the same, the later one's word."""
        asked = [asyncio.wait_for(source(), SOURCE_SECONDS) for source in self._slow]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: dict[tuple[Metric, tuple[str, ...]], Sample] = {}
        for sample in self._all_at_hand():
            found[sample.metric, sample.labels] = sample
        failed = 0
        for answer in answers:
            if isinstance(answer, BaseException):
                failed += 1
                log.info("metrics.source_failed", error=type(answer).__name__)
            else:
                found |= {(sample.metric, sample.labels): sample for sample in answer}
        return [*found.values(), Sample(Metric.SOURCES_FAILED, (), failed)]

    def _all_at_hand(self) -> Iterable[Sample]:
        yield from (Sample(metric, labels, value) for (metric, labels), value in self._values.items())
        yield from (Sample(metric, labels, spread) for (metric, labels), spread in self._spread.items())
        for source in self._sources:
            yield from source()


def counted(metric: Metric, counts: Mapping[str, float] | Mapping[tuple[str, ...], float]) -> Samples:
    """Samples of a table by label, or by labels."""
    for key, value in counts.items():
        yield Sample(metric, (key,) if isinstance(key, str) else key, value)
