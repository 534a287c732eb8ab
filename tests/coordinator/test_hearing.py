"""What a leader has in mind is bounded, and reports say when things were. The scenarios have the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from backend.clock import ManualClock
from backend.coordinator.deciding import Bench
from backend.coordinator.hearing import Hearing
from backend.coordinator.options import Options, WindowKind
from backend.coordinator.store import Stored
from backend.coordinator.stream import Entry
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, CircuitState, Report
from backend.providers.outcomes import Weight

CIRCUIT, OTHER = Circuit("A", Scope.READ), Circuit("B", Scope.READ)
DRAW = Random(1).random
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def report(node: str, number: int, weight: Weight, times: int, *, waited_ms: int = 0, circuit: Circuit = CIRCUIT) -> Report:
    return Report(node=node, number=number, calls=(CallEnded(circuit, 0, weight, 1.0),) * times, waited_ms=waited_ms)


def test_a_report_that_waited_tells_of_its_own_time() -> None:
    hearing = Hearing(Options(window=WindowKind.TIME, size=5), [], now=0.0)
    hearing.heard(report("a", 1, Weight.OK, 3, waited_ms=4_000), 10_000.0, DRAW)
    hearing.heard(report("a", 2, Weight.OK, 2, waited_ms=0), 10_000.0, DRAW)
    assert hearing.evidence(CIRCUIT, 10_000.0).counted.calls == 5
    assert hearing.evidence(CIRCUIT, 11_000.0).counted.calls == 2


def test_a_report_may_speak_of_several_circuits() -> None:
    hearing = Hearing(Options(size=4, minimum_calls=4, warm_up_ms=0), [], now=0.0)
    calls = report("a", 1, Weight.FAILURE, 4).calls + report("a", 1, Weight.OK, 4, circuit=OTHER).calls
    decided = hearing.heard(Report(node="a", number=1, calls=calls), 1.0, DRAW)
    assert [given.decision.circuit for given in decided if given.decision] == [CIRCUIT]
    assert hearing.standings().keys() == {CIRCUIT, OTHER}
    assert hearing.standing(OTHER).state is CircuitState.CLOSED


def test_a_report_of_roll_ups_alone_shows_that_its_node_is_alive() -> None:
    hearing = Hearing(Options(size=4, minimum_calls=4, warm_up_ms=0), [], now=0.0)
    hearing.heard(Report(node="b", number=1, calls=()), 1.0, DRAW)
    assert hearing.heard(report("a", 1, Weight.FAILURE, 4), 1.0, DRAW) == []
    assert hearing.evidence(CIRCUIT, 1.0).alive == 2


def test_a_flag_is_taken_down_with_its_evidence() -> None:
    hearing = Hearing(Options(size=40, alive_ms=1_000), [], now=0.0)
    hearing.heard(report("b", 1, Weight.OK, 10), 1.0, DRAW)
    hearing.heard(report("a", 1, Weight.FAILURE, 10), 1.0, DRAW)
    assert hearing.flagged(1_001.0) == {"a": (CIRCUIT,)}
    assert hearing.flagged(1_002.0) == {}


def test_a_bad_node_that_is_gone_is_no_operators_matter_and_no_evidence_either() -> None:
    hearing = Hearing(Options(size=40, minimum_calls=40, alive_ms=1_000, horizon_ms=10_000), [], now=0.0)
    hearing.heard(report("a", 1, Weight.FAILURE, 10), 1.0, DRAW)
    hearing.heard(report("b", 1, Weight.OK, 10), 1.0, DRAW)
    assert hearing.evidence(CIRCUIT, 10_000.0).left_out == {"a"}
    assert hearing.flagged(10_000.0) == {"a": (CIRCUIT,)}
    assert hearing.evidence(CIRCUIT, 10_001.0).left_out == {"a"}, "its calls are still in the sample"
    assert hearing.flagged(10_001.0) == {}


def test_operators_see_where_a_node_is_bad_and_where_its_word_does_not_count() -> None:
    """Bad at two institutions it is no witness at the third, where nothing is wrong with it."""
    circuits = [Circuit(org_code, Scope.READ) for org_code in "ABC"]
    bench = Bench(Stored(lineage="l", token=1, now_ms=0.0, standings=()), Options(warm_up_ms=0), ManualClock(NOW), DRAW)
    for number, circuit in enumerate(circuits):
        bench.hear(Entry(0.0, report("well", number, Weight.OK, 20, circuit=circuit)))
        bench.hear(Entry(0.0, report("bad", number, Weight.OK if circuit.org_code == "C" else Weight.FAILURE, 20, circuit=circuit)))
    shown = {each.circuit.org_code: (each.left_out, each.bad) for each in bench.figures()}
    assert shown == {"A": (("bad",), ("bad",)), "B": (("bad",), ("bad",)), "C": (("bad",), ())}


def test_nodes_are_forgotten_after_the_horizon() -> None:
    hearing = Hearing(Options(horizon_ms=1_000), [], now=0.0)
    for life in range(100):
        hearing.heard(report(f"node{life}", 1, Weight.OK, 1), life * 1_000.0, DRAW)
        hearing.passed(life * 1_000.0, DRAW)
    assert len(hearing._roster._nodes) <= 2
