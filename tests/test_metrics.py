"""Names by Prometheus' conventions, bounded labels, and a process that shows what it has even if an engine is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

import pytest

from backend import metrics as module
from backend.metrics import Kind, Metric, Metrics, Sample
from backend.providers.traffic import BOUNDS_MS

# Each is bounded by our code or by the directory; whoever adds one says by what.
LABELS = {
    "api_code",
    "caller",
    "engine",
    "job",
    "method",
    "org_code",
    "outcome",
    "process",
    "queue",
    "reason",
    "recovered",
    "role",
    "route",
    "scope",
    "state",
    "status",
    "sweep",
    "to",
    "transport",
    "version",
}


@pytest.mark.parametrize("metric", Metric, ids=lambda metric: metric.name)
def test_every_name_follows_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"moa_[a-z]+(_[a-z]+)*", metric.full_name)
    assert metric.full_name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert (metric.kind is Kind.HISTOGRAM) == bool(metric.bounds)
    assert metric.bounds == tuple(sorted(metric.bounds))
    assert not metric.full_name.endswith(("_ms", "_minutes", "_percent", "_count", "_sum", "_bucket"))
    assert metric.about.endswith(".")
    assert set(metric.labels) <= LABELS


def test_no_two_metrics_share_a_name() -> None:
    assert len({metric.full_name for metric in Metric}) == len(Metric)


def test_the_steps_of_calls_are_those_of_the_roll_ups() -> None:
    assert [round(bound * 1000) for bound in module.CALLS] == list(BOUNDS_MS)


async def test_what_is_counted_set_and_observed_is_shown() -> None:
    metrics = Metrics()
    metrics.count(Metric.LEASES_LOST, "batch")
    metrics.count(Metric.LEASES_LOST, "batch", by=2)
    metrics.set(Metric.LEADER, to=1)
    for value in (0.005, 0.006, 99.0):
        metrics.observe(Metric.HTTP_SECONDS, "GET", "/", value=value)
    shown = {sample.metric: sample.value for sample in await metrics.samples()}
    assert shown[Metric.LEASES_LOST] == 3
    assert shown[Metric.LEADER] == 1
    spread = shown[Metric.HTTP_SECONDS]
    assert isinstance(spread, module.Distribution)
    assert (spread.counts[0], spread.counts[1], spread.counts[-1], sum(spread.counts)) == (1, 1, 1, 3)  # the end of a step is in it


def test_a_sum_of_times_never_goes_back_though_two_machines_clocks_disagree() -> None:
    spread = module.Distribution((1.0,))
    for value in (0.5, -30.0):
        spread.add(value)
    assert (spread.counts, spread.total) == ([2, 0], 0.5)


async def test_a_source_that_fails_or_hangs_takes_only_its_own_figures_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOURCE_SECONDS", 0.05)
    metrics = Metrics()

    async def failing() -> Iterable[Sample]:
        raise OSError

    async def hanging() -> Iterable[Sample]:
        await asyncio.Event().wait()
        return []

    async def well() -> Iterable[Sample]:
        return [Sample(Metric.OUTBOX, (), 7)]

    metrics.watch(lambda: [Sample(Metric.SOCKETS, ("sse",), 2)])
    for source in (failing, hanging, well):
        metrics.watch_slow(source)
    shown = {sample.metric: sample.value for sample in await metrics.samples()}
    assert shown == {Metric.SOCKETS: 2, Metric.OUTBOX: 7, Metric.SOURCES_FAILED: 2}
