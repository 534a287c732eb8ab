"""Calls and circuits as metrics show them: each report once, whoever it did not reach, and what a circuit refused."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from backend.clock import SystemClock
from backend.errors import EngineUnavailable
from backend.metrics import Distribution, Metric, Sample
from backend.providers.calling.counting import CountedReports, circuits_of
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import ReportsInMemory
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Mode, Report
from backend.providers.traffic import Tally
from tests.providers.given import BANK


def report(number: int, **more: int) -> Report:
    """Two calls for a user that went well, one of them slow, a failed one, a cancelled one, and one of the batch."""
    tally = Tally()
    for took, reason, slow in ((30, None, False), (4_000, None, True), (200, "http_500", False)):
        tally.add(BANK, "BA01", False, 0, "u1", took, reason, slow)
    tally.add_cancelled(BANK, "BA01", False, 0, "u1")
    tally.add(BANK, "BA02", True, 0, "u2", 30, None, False)
    rollups, seen, _ = tally.taken()
    return Report(node="n", number=number, calls=(), rollups=rollups, seen=seen, **more)


def shown(samples: Iterable[Sample]) -> dict[tuple[Metric, tuple[str, ...]], float | Distribution]:
    return {(sample.metric, sample.labels): sample.value for sample in samples}


async def test_a_report_counts_once_however_often_it_is_sent() -> None:
    inner = ReportsInMemory()
    counted = CountedReports(inner)
    inner.away = True
    with pytest.raises(EngineUnavailable):
        await counted.send(report(1, dropped=3, uncounted=1))
    inner.away = False
    await counted.send(report(1, dropped=3, uncounted=1))
    await counted.send(report(2))
    found = shown(counted.measured())
    calls = {labels: value for (metric, labels), value in found.items() if metric is Metric.PROVIDER_CALLS}
    assert calls == {
        (BANK, "BA01", "user", "ok"): 4,
        (BANK, "BA01", "user", "http_500"): 2,
        (BANK, "BA01", "user", "cancelled"): 2,
        (BANK, "BA02", "scheduled", "ok"): 2,
    }
    assert found[Metric.PROVIDER_SLOW, (BANK,)] == 2
    times = found[Metric.PROVIDER_SECONDS, (BANK,)]
    assert isinstance(times, Distribution)
    assert (sum(times.counts), round(times.total, 3)) == (8, 8.52)  # those that we ended are in no time
    assert (found[Metric.OUTCOMES_DROPPED, ()], found[Metric.OUTCOMES_UNCOUNTED, ()]) == (3, 1)
    assert [each.number for each in inner.received] == [1, 2]


def test_a_circuit_is_shown_as_this_process_was_told() -> None:
    mirrors = Mirrors(SystemClock())
    mirror = mirrors.of(BANK, Scope.READ)
    mirrors.of(BANK, Scope.TOKEN)
    decision = Decision(circuit=Circuit(BANK, Scope.READ), state=CircuitState.OPEN, mode=Mode.AUTO, epoch=1, reason="failure_rate")
    mirror.apply(decision)
    mirror.refused += 2
    found = shown(circuits_of(mirrors))
    assert found[Metric.CIRCUIT_STATE, (BANK, "read")] == 2
    assert found[Metric.CIRCUIT_STATE, (BANK, "token")] == 0
    assert found[Metric.PROVIDER_REFUSED, (BANK, "read")] == 2
