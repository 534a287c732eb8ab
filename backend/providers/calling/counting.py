"""What a process's calls to institutions and its circuits come to, for its metrics.

In: reports on their way to the coordinator, which hold sums already, one for each API. Out: counters. So a call by itself costs nothing
here; and the page shows it half a second later at most.
"""

from __future__ import annotations

from collections import Counter

from backend.metrics import CALLS, Distribution, Metric, Sample, Samples, counted
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Reports
from backend.providers.circuits import CircuitState, Report
from backend.providers.traffic import Rollup

STATES = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}


class CountedReports:
    """`noticing.Reports` that adds up each report once, however often it is sent, and passes it on."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._number = 0  # of the last report that was added up
        self._calls: Counter[tuple[str, ...]] = Counter()
        self._slow: Counter[str] = Counter()
        self._times: dict[str, Distribution] = {}
        self._dropped = self._uncounted = 0

    async def send(self, report: Report) -> None:
        """See `Reports.send`."""
        if report.number > self._number:
            self._number = report.number
            self._dropped += report.dropped
            self._uncounted += report.uncounted
            for rollup in report.rollups:
                self._add(rollup)
        await self._reports.send(report)

    def _add(self, rollup: Rollup) -> None:
        calls, caller = self._calls, "scheduled" if rollup.scheduled else "user"
        calls[rollup.org_code, rollup.api_code, caller, "ok"] += rollup.successes
        for reason, times in rollup.failures.items():
            calls[rollup.org_code, rollup.api_code, caller, reason] += times
        if rollup.cancelled:
            calls[rollup.org_code, rollup.api_code, caller, "cancelled"] += rollup.cancelled
        self._slow[rollup.org_code] += rollup.slow
        times_of = self._times.setdefault(rollup.org_code, Distribution(CALLS))
        times_of.counts = [one + more for one, more in zip(times_of.counts, rollup.histogram, strict=True)]
        times_of.total += rollup.ms / 1000

    def measured(self) -> Samples:
        """Of this process."""
        yield from counted(Metric.PROVIDER_CALLS, self._calls)
        yield from counted(Metric.PROVIDER_SLOW, self._slow)
        yield from (Sample(Metric.PROVIDER_SECONDS, (org_code,), times) for org_code, times in self._times.items())
        yield Sample(Metric.OUTCOMES_DROPPED, (), self._dropped)
        yield Sample(Metric.OUTCOMES_UNCOUNTED, (), self._uncounted)


def circuits_of(mirrors: Mirrors) -> Samples:
    """The circuits of which this process knows."""
    for mirror in mirrors:
        labels = mirror.circuit.org_code, mirror.circuit.scope.value
        yield Sample(Metric.CIRCUIT_STATE, labels, STATES[mirror.standing])
        yield Sample(Metric.PROVIDER_REFUSED, labels, mirror.refused)
