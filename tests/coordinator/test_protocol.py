"""Whatever is lost, doubled, reordered, killed or late: one probe, epochs that grow, operators that are obeyed, circuits that heal."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.outcomes import Weight
from tests.coordinator.fleet import CIRCUITS, Fleet

names = st.sampled_from("abc")
circuits = st.sampled_from(CIRCUITS)
which = st.integers(0, 10_000)


class Protocol(RuleBasedStateMachine):
    """Three nodes, two institutions, leaders one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.epochs: dict[tuple[str, Circuit], int] = {}

    @rule(ms=st.sampled_from([10, 100, 1_000, 3_000, 6_000]))
    def time_passes(self, ms: int) -> None:
        self.fleet.wait(ms)

    @rule(circuit=circuits)
    def an_institution_falls_ill_or_is_well_again(self, circuit: Circuit) -> None:
        self.fleet.well[circuit] = not self.fleet.well[circuit]

    @rule(name=names, circuit=circuits, calls=st.integers(1, 4))
    def calls_begin_and_end(self, name: str, circuit: Circuit, calls: int) -> None:
        node = self.fleet.nodes[name]
        for _ in range(calls):
            self.fleet.begin(node, circuit)
            if node.begun:
                self.fleet.end(node, -1)

    @rule(name=names, circuit=circuits)
    def a_call_begins_and_takes_long(self, name: str, circuit: Circuit) -> None:
        self.fleet.begin(self.fleet.nodes[name], circuit)

    @rule(name=names, weight=st.sampled_from([None, Weight.FAILURE, Weight.IGNORED]))
    def an_old_call_ends(self, name: str, weight: Weight | None) -> None:
        node = self.fleet.nodes[name]
        if node.begun:
            self.fleet.end(node, 0, weight)

    @rule(name=names)
    def a_node_reports(self, name: str) -> None:
        self.fleet.report(self.fleet.nodes[name])

    @rule(at=which)
    def a_report_arrives_now_or_again(self, at: int) -> None:
        if self.fleet.reports:
            self.fleet.deliver_report(at % len(self.fleet.reports))

    @rule(at=which)
    def a_report_is_lost(self, at: int) -> None:
        if self.fleet.reports:
            self.fleet.reports.pop(at % len(self.fleet.reports))

    @rule(at=which)
    def a_decision_arrives_now_or_again(self, at: int) -> None:
        if self.fleet.decisions:
            self.fleet.deliver_decision(at % len(self.fleet.decisions))

    @rule()
    def every_decision_under_way_is_lost(self) -> None:
        self.fleet.decisions.clear()

    @rule(name=names)
    def a_node_reads_the_whole_state(self, name: str) -> None:
        self.fleet.read_all(self.fleet.nodes[name])

    @rule(name=names, circuit=circuits, answered=st.booleans())
    def a_node_asks_for_the_probe(self, name: str, circuit: Circuit, answered: bool) -> None:
        self.fleet.ask(self.fleet.nodes[name], circuit, answered=answered)

    @rule(name=names, circuit=circuits, weight=st.sampled_from([None, None, Weight.IGNORED]))
    def a_probe_calls(self, name: str, circuit: Circuit, weight: Weight | None) -> None:
        self.fleet.probe(self.fleet.nodes[name], circuit, weight)

    @rule(name=names, circuit=circuits)
    def a_probe_is_cancelled(self, name: str, circuit: Circuit) -> None:
        self.fleet.release(self.fleet.nodes[name], circuit)

    @rule()
    def the_leader_dies(self) -> None:
        self.fleet.elect()

    @precondition(lambda self: self.fleet.deposed)
    @rule(at=which)
    def a_replaced_leader_wakes_up(self, at: int) -> None:
        self.fleet.return_of(self.fleet.deposed[at % len(self.fleet.deposed)])

    @rule(circuit=circuits, mode=st.sampled_from(Mode))
    def an_operator_decides(self, circuit: Circuit, mode: Mode) -> None:
        self.fleet.order(circuit, mode)

    @invariant()
    def epochs_never_go_back(self) -> None:
        for node in self.fleet.nodes.values():
            for circuit, mirror in node.mirrors.items():
                assert mirror.epoch >= self.epochs.get((node.name, circuit), 0)
                self.epochs[node.name, circuit] = mirror.epoch

    @invariant()
    def there_are_never_two_live_probes(self) -> None:
        for circuit in CIRCUITS:
            live = [node.name for node in self.fleet.nodes.values() if node.probes(circuit, self.fleet.now) is not None]
            assert len(live) <= 1, live

    @invariant()
    def what_an_operator_forced_stands(self) -> None:
        for circuit, mode in self.fleet.ordered.items():
            standing = self.fleet.store.standings[circuit]
            assert standing.mode is mode
            assert mode is Mode.AUTO or (standing.state is CircuitState.OPEN) == (mode is Mode.FORCED_OPEN)

    def teardown(self) -> None:
        """Nothing stays open for ever once institutions are well and messages flow, and all nodes agree."""
        self.fleet.heal()
        for circuit in CIRCUITS:
            mode = self.fleet.ordered.get(circuit, Mode.AUTO)
            wanted = CircuitState.OPEN if mode is Mode.FORCED_OPEN else CircuitState.CLOSED
            stands = self.fleet.leader.hearing.standing(circuit)
            assert (stands.state, stands.mode) == (wanted, mode)
            assert {(m.state, m.mode) for m in (node.mirrors[circuit] for node in self.fleet.nodes.values())} == {(wanted, mode)}


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
