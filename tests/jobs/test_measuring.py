"""What metrics say of jobs, sweeps and queues, at a real worker and a real Valkey."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.worker import func

from backend.clock import SystemClock
from backend.errors import EngineUnavailable
from backend.jobs.leases import Lease
from backend.jobs.measuring import CountedSweep, connections, queues, timed
from backend.jobs.queue import Job, Postponed, QueueName
from backend.metrics import Distribution, Metric, Metrics
from tests.jobs.conftest import Jobs

QUEUE = QueueName.INTERACTIVE


async def counted(metrics: Metrics, metric: Metric) -> dict[tuple[str, ...], Any]:
    return {sample.labels: sample.value for sample in await metrics.samples() if sample.metric is metric}


async def test_every_run_is_counted_by_what_became_of_it(jobs: Jobs) -> None:
    metrics, runs = Metrics(), 0

    async def deed(_ctx: dict[Any, Any]) -> None:
        nonlocal runs
        runs += 1
        match runs:
            case 1:
                raise Postponed(datetime.now(UTC))
            case 2:
                raise RuntimeError

    await jobs.enqueue("deed")
    await jobs.run_all(func(timed(deed, "deed", queue=QUEUE, metrics=metrics, clock=SystemClock()), name="deed"))
    assert await counted(metrics, Metric.JOBS) == {
        (QUEUE, "deed", "postponed"): 1,
        (QUEUE, "deed", "failed"): 1,
        (QUEUE, "deed", "done"): 1,
    }
    for metric in (Metric.JOB_SECONDS, Metric.JOB_WAIT_SECONDS):
        [spread] = (await counted(metrics, metric)).values()
        assert isinstance(spread, Distribution)
        assert sum(spread.counts) == 3


@pytest.mark.parametrize(("lost", "outcome"), [(True, "lease_lost"), (False, "cancelled")])
async def test_a_run_that_is_taken_away_is_no_failure(lost: bool, outcome: str) -> None:
    metrics = Metrics()

    async def deed(_ctx: dict[Any, Any]) -> None:
        await asyncio.Event().wait()

    lease = Lease("job", "me", 0, SystemClock())
    lease.lost = lost
    run = asyncio.ensure_future(timed(deed, "deed", queue=QUEUE, metrics=metrics, clock=SystemClock())({"score": 0, "lease": lease}))
    await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert await counted(metrics, Metric.JOBS) == {(QUEUE, "deed", outcome): 1}
    assert await counted(metrics, Metric.LEASES_LOST) == {(QUEUE,): int(lost)}


async def test_depth_and_age_are_told_by_valkeys_clock(jobs: Jobs) -> None:
    now = SystemClock().now()
    await jobs.queue.enqueue([Job("f", {}, "1"), Job("f", {}, "2"), Job("f", {}, "3", now + timedelta(hours=1))])
    await jobs.redis.zadd("arq:queue:interactive", {"1": (now.timestamp() - 90) * 1000})
    shown = {(sample.metric, sample.labels): sample.value for sample in await queues(jobs.redis)}
    assert shown[Metric.QUEUE_JOBS, (QUEUE, "due")] == 2
    assert shown[Metric.QUEUE_JOBS, (QUEUE, "later")] == 1
    oldest = shown[Metric.QUEUE_OLDEST, (QUEUE,)]
    assert isinstance(oldest, float)
    assert 90 <= oldest < 100
    assert shown[Metric.QUEUE_OLDEST, (QueueName.BATCH,)] == 0
    assert shown[Metric.WORKERS, (QUEUE,)] == 0


async def test_the_pool_of_a_client_is_shown(jobs: Jobs) -> None:
    await jobs.redis.ping()
    shown = {(sample.metric, sample.labels): sample.value for sample in connections(jobs.redis)}
    assert shown == {
        (Metric.VALKEY_CONNECTIONS, ("used",)): 0,
        (Metric.VALKEY_CONNECTIONS, ("idle",)): 1,
        (Metric.VALKEY_LIMIT, ()): 20,
    }


async def test_a_sweep_is_counted_whatever_it_finds() -> None:
    class Looking:
        name = "looking"

        async def sweep(self, now: datetime) -> int:
            if now.year == 1970:
                raise EngineUnavailable("Valkey")
            return 5

    metrics = Metrics()
    sweep = CountedSweep(Looking(), metrics)
    assert (sweep.name, await sweep.sweep(datetime.now(UTC))) == ("looking", 5)
    with pytest.raises(EngineUnavailable):
        await sweep.sweep(datetime.fromtimestamp(0, UTC))
    assert await counted(metrics, Metric.SWEEP_FOUND) == {("looking",): 5}
    assert await counted(metrics, Metric.SWEEP_FAILURES) == {("looking",): 1}
