"""A loop that stands still shows by how much. Real time is what is asked about, so pauses are short."""

from __future__ import annotations

import asyncio
import time

import pytest

from backend import lateness as module
from backend.clock import SystemClock
from backend.lateness import lateness_shown
from backend.metrics import Distribution, Metric, Metrics

PAUSE = 0.3  # seconds


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)


async def spread(metrics: Metrics) -> Distribution:
    [found] = [sample.value for sample in await metrics.samples() if sample.metric is Metric.LOOP_LAG]
    assert isinstance(found, Distribution)
    return found


async def test_a_loop_that_stood_still_is_seen_once_by_as_much_as_it_did() -> None:
    metrics = Metrics()
    async with lateness_shown(metrics, SystemClock()):
        await asyncio.sleep(0.05)
        before = await spread(metrics)
        total, seen = before.total, sum(before.counts)
        time.sleep(PAUSE)  # noqa: ASYNC251  # this is what stands still
        await asyncio.sleep(0.015)
    after = await spread(metrics)
    assert seen > 0
    assert after.total - total >= PAUSE - module.EVERY
    late = sum(count for bound, count in zip((*after.bounds, float("inf")), after.counts, strict=True) if bound > PAUSE - module.EVERY)
    assert late >= 1


async def test_it_ends_with_its_process() -> None:
    metrics = Metrics()
    async with lateness_shown(metrics, SystemClock()):
        await asyncio.sleep(0.05)
    seen = sum((await spread(metrics)).counts)
    await asyncio.sleep(0.05)
    assert sum((await spread(metrics)).counts) == seen > 0
