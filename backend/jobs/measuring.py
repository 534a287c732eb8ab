"""What is to be known of jobs, queues, sweeps, and of Valkey's connections.

In: jobs and sweeps, which are run as they are; a client of Valkey. Out: figures. Nothing here changes what happens to a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import wraps
from typing import Any

from arq.worker import Retry
from redis.asyncio import Redis

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.jobs.leases import workers_alive
from backend.jobs.queue import Postponed, QueueName, queue_key
from backend.jobs.sweeper import Sweep
from backend.jobs.valkey import engine_errors
from backend.metrics import Metric, Metrics, Sample, Samples

Deed = Callable[..., Awaitable[None]]


def timed(deed: Deed, name: str, *, queue: QueueName, metrics: Metrics, clock: Clock) -> Deed:
    """The same job; what became of each run is counted."""

    @wraps(deed)
    async def measured(ctx: dict[Any, Any], **kwargs: Any) -> None:
        began = clock.monotonic()
        metrics.observe(Metric.JOB_WAIT_SECONDS, queue, name, value=max(clock.now().timestamp() - ctx["score"] / 1000, 0.0))
        outcome = "failed"
        try:
            await deed(ctx, **kwargs)
            outcome = "done"
        except (Postponed, Retry):
            outcome = "postponed"
            raise
        except EngineUnavailable:
            outcome = "engine_away"
            raise
        except asyncio.CancelledError:
            outcome = "lease_lost" if ctx["lease"].lost else "cancelled"
            raise
        finally:
            metrics.count(Metric.JOBS, queue, name, outcome)
            metrics.observe(Metric.JOB_SECONDS, queue, name, value=clock.monotonic() - began)
            metrics.count(Metric.LEASES_LOST, queue, by=outcome == "lease_lost")

    return measured


class CountedSweep:
    """The same sweep; what it found, and that it failed, is counted."""

    def __init__(self, sweep: Sweep, metrics: Metrics) -> None:
        self._sweep = sweep
        self._metrics = metrics

    @property
    def name(self) -> str:
        """See `Sweep`."""
        return self._sweep.name

    async def sweep(self, now: datetime) -> int:
        """See `Sweep`."""
        try:
            found = await self._sweep.sweep(now)
        except Exception:
            self._metrics.count(Metric.SWEEP_FAILURES, self.name)
            raise
        self._metrics.count(Metric.SWEEP_FOUND, self.name, by=found)
        return found


async def queues(redis: Redis) -> Samples:
    """Depth and age of every queue, by Valkey's clock. A running job's score is the end of its lease. Raises `EngineUnavailable`."""
    samples: list[Sample] = []
    with engine_errors():
        seconds, micros = await redis.time()
    now_ms = seconds * 1000 + micros // 1000
    for queue in QueueName:
        with engine_errors():
            due = await redis.zcount(queue_key(queue), "-inf", now_ms)
            everything = await redis.zcard(queue_key(queue))
            first = await redis.zrange(queue_key(queue), 0, 0, withscores=True)
        oldest = max(now_ms - first[0][1], 0.0) / 1000 if first else 0.0
        samples += (
            Sample(Metric.QUEUE_JOBS, (queue, "due"), due),
            Sample(Metric.QUEUE_JOBS, (queue, "later"), everything - due),
            Sample(Metric.QUEUE_OLDEST, (queue,), oldest),
            Sample(Metric.WORKERS, (queue,), await workers_alive(redis, queue)),
        )
    return samples


def connections(redis: Redis) -> Samples:
    """The pool of a client; redis-py has no public word for it."""
    pool = redis.connection_pool
    yield Sample(Metric.VALKEY_CONNECTIONS, ("used",), len(pool._in_use_connections))
    yield Sample(Metric.VALKEY_CONNECTIONS, ("idle",), len(pool._available_connections))
    yield Sample(Metric.VALKEY_LIMIT, (), pool.max_connections)
