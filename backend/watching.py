"""Which figures each kind of process shows, beside those that are counted where things happen. Part of the composition root.

In: what a process was built from. Out: sources for its `Metrics`; nothing is read before somebody asks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from importlib.metadata import version

from redis.asyncio import Redis

from backend.clock import Clock
from backend.coordinator.figures import ValkeyFigures
from backend.jobs.measuring import connections, queues
from backend.metrics import Metric, Metrics, Sample, Samples
from backend.providers.certificates import certificate_ends
from backend.providers.directory import Directory
from backend.storage import webhooks
from backend.storage.database import Database
from backend.storage.outbox import Relay

Away = Callable[[], Awaitable[Mapping[str, str]]]
ENGINES = ("PostgreSQL", "Valkey")


def watch_process(metrics: Metrics, role: str, *, database: Database, valkey: Redis, relay: Relay, away: Away) -> None:
    """What every process shows. `away`: the engines that do not answer."""

    async def engines() -> Samples:
        missing = await away()
        return [Sample(Metric.ENGINE_UP, (engine.lower(),), engine not in missing) for engine in ENGINES]

    metrics.set(Metric.INFO, role, version("moa"), to=1)
    for source in (database.measured, relay.measured, partial(connections, valkey)):
        metrics.watch(source)
    metrics.watch_slow(engines)


def watch_fleet(metrics: Metrics, *, valkey: Redis, relay: Relay, directory: Callable[[], Directory], clock: Clock) -> None:
    """What is the same for all processes is told by the coordinators, each of them: who leads may be changing just now."""
    metrics.set(Metric.LEADER, to=0)
    metrics.watch_slow(partial(queues, valkey))
    metrics.watch_slow(lambda: relay.waiting(clock.now()))
    metrics.watch_slow(ValkeyFigures(valkey).measured)
    metrics.watch(partial(certificate_ends, directory))


def watch_deliveries(metrics: Metrics, *, database: Database, messages: Callable[[], Awaitable[datetime | None]], clock: Clock) -> None:
    """What waits for receivers, told by the coordinators. `messages`: when the oldest for operators was written."""

    async def oldest() -> Samples:
        async with database.reading() as connection:
            events = await webhooks.oldest(connection)
        now = clock.now()
        found = {"app": events, "operators": await messages()}
        return [Sample(Metric.WEBHOOK_OLDEST, (to,), max((now - at).total_seconds(), 0.0) if at else 0) for to, at in found.items()]

    metrics.watch_slow(oldest)


@asynccontextmanager
async def shown_as_leader(metrics: Metrics) -> AsyncIterator[None]:
    """While the block runs."""
    metrics.set(Metric.LEADER, to=1)
    try:
        yield
    finally:
        metrics.set(Metric.LEADER, to=0)
