"""What the leading coordinator has in mind: every circuit's standing and sample, and who said what. RULE: memory, no I/O, no clock.

In: reports, moments, and what nodes and operators ask. Out: verdicts, each to be stored and published in this order. Draws are asked of the
caller. A leader whose word was refused by the store throws this away; the next begins with the standings that were stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from backend.coordinator.arrivals import Arrived, EpochSeen, Heard, MaintenanceTold, ProbeAnswered, TimePassed
from backend.coordinator.options import Options
from backend.coordinator.sample import Evidence, Sample
from backend.coordinator.standing import Standing, restored
from backend.coordinator.verdict import Verdict, verdict
from backend.coordinator.witnesses import Roster, bad_everywhere, bad_here
from backend.providers import outcomes
from backend.providers.circuits import CallEnded, Circuit, CircuitState, Mode, Report

Draw = Callable[[], float]  # a number in [0, 1)


class Hearing:
    """One reign. `now` is in ms everywhere and does not go back."""

    def __init__(self, options: Options, standings: Iterable[Standing], *, now: float) -> None:
        self._options = options
        self._began = now
        self._standings = {standing.circuit: restored(standing, now, options) for standing in standings}
        self._samples: dict[Circuit, Sample] = {}
        self._roster = Roster()
        self._bad: dict[Circuit, tuple[float, frozenset[str]]] = {}  # who is bad where, and when that was seen

    def heard(self, report: Report, at: float, draw: Draw) -> list[Verdict]:
        """Takes in a report that was sent at `at`. Heard before: it changes nothing."""
        if not self._roster.counts(report.node, report.number, at):
            return []
        verdicts: list[Verdict] = []
        for circuit, calls in _by_circuit(report.calls).items():
            before = self.standing(circuit)
            for arrived in self._meaning(before, report, calls, at):
                verdicts.append(self.tell(circuit, arrived, at, draw()))
        return [given for given in verdicts if given.decision is not None]

    def passed(self, now: float, draw: Draw) -> list[Verdict]:
        """Lets time pass everywhere."""
        self._roster.forget(now - self._options.horizon_ms)
        due = [standing for standing in self._standings.values() if standing.mode is Mode.AUTO]
        verdicts = [self.tell(standing.circuit, TimePassed(), now, draw()) for standing in due if standing.state is not CircuitState.CLOSED]
        for standing in due:
            if standing.doubted_ms is not None:
                verdicts.append(self.tell(standing.circuit, Heard(self.evidence(standing.circuit, now)), now, draw()))
        return [given for given in verdicts if given.decision is not None]

    def tell(self, circuit: Circuit, arrived: Arrived, now: float, draw: float) -> Verdict:
        """What arrived about one circuit; `draw` is in [0, 1)."""
        before = self.standing(circuit)
        given = verdict(before, arrived, now, draw, self._options)
        self._standings[circuit] = given.standing
        if given.standing.counts_from > before.counts_from:
            self._sample(circuit).begin(given.standing.counts_from)
        return given

    def standing(self, circuit: Circuit) -> Standing:
        """As it stands; a circuit that nobody spoke of is closed."""
        return self._standings.get(circuit) or Standing(circuit=circuit, since_ms=self._began)

    def standings(self) -> Mapping[Circuit, Standing]:
        """All that were spoken of."""
        return self._standings

    def evidence(self, circuit: Circuit, now: float) -> Evidence:
        """What is known of a circuit, without the nodes that are bad."""
        sample = self._sample(circuit)
        here = bad_here(sample.shares(now), self._options)
        self._bad.pop(circuit, None)
        if here:
            self._bad[circuit] = (now, here)
        left_out = here | bad_everywhere(self._lately_bad(now), self._options)
        return sample.evidence(now, alive=self._roster.alive(now - self._options.alive_ms), left_out=left_out)

    def flagged(self, now: float) -> dict[str, tuple[Circuit, ...]]:
        """The nodes that are bad, and where: for operators. Their calls may stand in a sample for long after they are gone."""
        heard = self._roster.alive(now - self._options.horizon_ms)
        flagged: dict[str, tuple[Circuit, ...]] = {}
        for circuit, nodes in self._lately_bad(now).items():
            for node in nodes & heard:
                flagged[node] = (*flagged.get(node, ()), circuit)
        return flagged

    def _meaning(self, standing: Standing, report: Report, calls: list[CallEnded], at: float) -> Iterable[Arrived]:
        """What a node's calls to one institution say, in the order in which it counts."""
        newest = max(call.epoch for call in calls)
        if newest > standing.epoch:
            yield EpochSeen(newest)
        if standing.mode is not Mode.AUTO:
            return
        probe = standing.probe
        if probe is not None and probe.name == report.node:
            for call in calls:
                if call.epoch >= probe.fence:  # nobody else is let through
                    yield (
                        MaintenanceTold(call.epoch, call.resting_ms)
                        if call.resting_ms is not None
                        else ProbeAnswered(probe.fence, call.weight, lives=outcomes.is_an_answer(call.reason))
                    )
        elif standing.state is CircuitState.CLOSED:
            yield from (MaintenanceTold(call.epoch, call.resting_ms) for call in calls if call.resting_ms is not None)
            self._sample(standing.circuit).take(report.node, calls, at - report.waited_ms)
            yield Heard(self.evidence(standing.circuit, at))

    def _lately_bad(self, now: float) -> dict[Circuit, frozenset[str]]:
        return {circuit: nodes for circuit, (at, nodes) in self._bad.items() if now - at <= self._options.alive_ms}

    def _sample(self, circuit: Circuit) -> Sample:
        if circuit not in self._samples:
            epoch = self.standing(circuit).counts_from
            self._samples[circuit] = Sample(self._options, listening_since=self._began, epoch=epoch)
        return self._samples[circuit]


def _by_circuit(calls: Iterable[CallEnded]) -> dict[Circuit, list[CallEnded]]:
    by_circuit: dict[Circuit, list[CallEnded]] = {}
    for call in calls:
        by_circuit.setdefault(call.circuit, []).append(call)
    return by_circuit
