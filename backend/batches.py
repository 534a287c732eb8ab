"""What plans and commands the weekly batch, and what operators steer it with. Part of the composition root (`services.py`).

In: settings, engines, how circuits stand. Out: duties for whoever leads, and the endpoints. How a command is carried out is a worker's
(`workers.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from backend.batch.calendar import overrides
from backend.batch.endpoints import BatchEndpoints
from backend.batch.planning import Planning
from backend.batch.reconciling import Reconciling
from backend.batch.steering import Steering
from backend.batch.terms import Terms
from backend.clock import Clock
from backend.coordinator.breakers import PROVIDER_SCOPES
from backend.coordinator.standing import Standing
from backend.identity import TokenVerifier
from backend.jobs.queue import JobQueue
from backend.jobs.sweeper import Sweeper
from backend.metrics import Metric, Sample, Samples
from backend.providers.circuits import CircuitState
from backend.providers.directory import Directory, is_sandboxed
from backend.reporting.alarms import Alerts
from backend.settings import Settings
from backend.storage import batch_pruning
from backend.storage.database import Database
from backend.storage.pruning import Pruning

EVERY = 1.0  # seconds between two looks
PLANNED_WITHIN = 3600.0  # seconds for all plans: a provider with millions of links is counted for some

Standings = Callable[[], Awaitable[Sequence[Standing]]]


def batch_terms(settings: Settings) -> Terms:
    """On which terms the batch works. Raises `ValueError`, which names the setting, for days that cannot be read."""
    try:
        said = overrides(day for day in settings.batch_days_said.split(",") if day.strip())
    except ValueError as exc:
        raise ValueError(f"MOA_BATCH_DAYS_SAID: {exc}") from exc
    return Terms(
        automatic=settings.batch_automatic,
        calls_per_second=settings.batch_calls_per_second,
        finish=timedelta(seconds=settings.provider_deadline),
        skips_refreshed=settings.batch_skips_refreshed,
        min_age_days=settings.batch_min_age_days,
        max_age_days=settings.batch_max_age_days,
        attempts=settings.batch_attempts,
        unknown_attempts=2 if settings.batch_unknown == "repeat" else 1,
        said=said,
    )


async def lead_batch(
    settings: Settings,
    *,
    database: Database,
    queue: JobQueue,
    directory: Callable[[], Directory],
    standings: Standings,
    alerts: Alerts,
    clock: Clock,
) -> None:
    """Plans and commands until it is cancelled. Neither waits for the other."""
    terms = batch_terms(settings)

    async def resting() -> frozenset[str]:
        """A circuit that is being probed takes no batch, either."""
        return frozenset(
            standing.circuit.org_code
            for standing in await standings()
            if standing.circuit.scope in PROVIDER_SCOPES and standing.state is not CircuitState.CLOSED
        )

    planning = Planning(database=database, directory=directory, terms=terms, clock=clock)
    reconciling = Reconciling(
        database=database, queue=queue, directory=directory, resting=resting, align=alerts.align, terms=terms, clock=clock
    )
    pruning = Pruning("batch_old", batch_pruning.forget_old, database=database)
    async with asyncio.TaskGroup() as group:
        group.create_task(Sweeper([planning], EVERY, clock=clock, deadline=PLANNED_WITHIN).run())
        group.create_task(Sweeper([reconciling, pruning], EVERY, clock=clock).run())


def batch_figures(
    settings: Settings, *, database: Database, directory: Callable[[], Directory], clock: Clock
) -> Callable[[], Awaitable[Samples]]:
    """What metrics show of the batch: what operators are shown."""
    steering = _steering(settings, database=database, directory=directory, clock=clock)

    async def read() -> Samples:
        return [sample for each in (await steering.status())["providers"] for sample in samples_of(each)]

    return read


def samples_of(shown: Mapping[str, Any]) -> Samples:
    """RULE: of one provider's row in `GET /ops/batch`."""
    org_code = shown["org_code"]
    for status in ("due", "done", "failed", "skipped", "unknown"):
        yield Sample(Metric.BATCH_LINKS, (org_code, status), shown[status])
    yield Sample(Metric.BATCH_PLANNED, (org_code,), shown["planned_today"])
    yield Sample(Metric.BATCH_SENT, (org_code,), shown["done"] + shown["failed"] + shown["unknown"])
    yield Sample(Metric.BATCH_PACE, (org_code,), shown["pace_per_minute"])
    yield Sample(Metric.BATCH_LAG, (org_code,), shown["lag_seconds"])
    yield Sample(Metric.BATCH_PAUSED, (org_code,), shown["paused"])


def batch_endpoints(
    settings: Settings, *, verifier: TokenVerifier, database: Database, directory: Callable[[], Directory], clock: Clock
) -> BatchEndpoints:
    """`/ops/batch` and what lies below it."""
    steering = _steering(settings, database=database, directory=directory, clock=clock)
    return BatchEndpoints(verifier=verifier, steering=steering, directory=directory, max_body=settings.max_body_bytes)


def _steering(settings: Settings, *, database: Database, directory: Callable[[], Directory], clock: Clock) -> Steering:
    sandboxed = partial(is_sandboxed, settings=settings)
    return Steering(database=database, directory=directory, terms=batch_terms(settings), sandboxed=sandboxed, clock=clock)
