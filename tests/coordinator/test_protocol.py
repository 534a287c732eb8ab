"""Whatever is lost, doubled, reordered, killed or late: one probe, epochs that grow, operators that are obeyed, circuits that heal."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.outcomes import Weight
from tests.coordinator.fleet import CIRCUITS, OPTIONS, Fleet

names = st.sampled_from("abc")
which = st.integers(0, 10_000)
often = st.sampled_from([True, True, True, False])
CIRCUIT = CIRCUITS[0]


class Protocol(RuleBasedStateMachine):
    """Three nodes, an institution, leaders one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.epochs: dict[tuple[str, Circuit], int] = {}

    @rule(ms=st.sampled_from([10, 100, 1_000, 3_000, 6_000]))
    def time_passes(self, ms: int) -> None:
        self.fleet.wait(ms)

    @rule(name=names, well=st.booleans(), reported=often)
    def a_node_works(self, name: str, well: bool, reported: bool) -> None:
        self.fleet.well[CIRCUIT] = well
        node = self.fleet.nodes[name]
        for _ in range(3):
            self.fleet.begin(node, CIRCUIT)
            if node.begun:
                self.fleet.end(node, -1)
        if reported:
            self.fleet.report(node)

    @rule()
    def the_institution_falls_ill_and_all_notice(self) -> None:
        """The small steps alone hardly ever find their way to an open circuit."""
        self.fleet.wait(OPTIONS.warm_up_ms)
        for node in self.fleet.nodes.values():
            self.fleet.read_all(node)
            self.a_node_works(node.name, well=False, reported=True)
        self.reports_arrive_and_may_come_again()

    @rule(name=names, answered=often)
    def it_falls_ill_and_a_node_asks_in_time(self, name: str, answered: bool) -> None:
        self.the_institution_falls_ill_and_all_notice()
        self.the_wait_is_over_and_a_node_asks(name, answered)

    @rule(name=names)
    def a_call_begins_and_takes_long(self, name: str) -> None:
        self.fleet.begin(self.fleet.nodes[name], CIRCUIT)

    @rule(name=names, weight=st.sampled_from([None, Weight.FAILURE, Weight.IGNORED]))
    def an_old_call_ends(self, name: str, weight: Weight | None) -> None:
        node = self.fleet.nodes[name]
        if node.begun:
            self.fleet.end(node, 0, weight)
            self.fleet.report(node)

    @rule()
    def reports_arrive_and_may_come_again(self) -> None:
        for at in reversed(range(len(self.fleet.reports))):
            self.fleet.deliver_report(at)
        del self.fleet.reports[:-4]

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

    @rule(name=names, answered=often)
    def a_node_asks_for_the_probe(self, name: str, answered: bool) -> None:
        self.fleet.ask(self.fleet.nodes[name], CIRCUIT, answered=answered)

    @rule(name=names, answered=often)
    def the_wait_is_over_and_a_node_asks(self, name: str, answered: bool) -> None:
        due = self.fleet.leader.hearing.standing(CIRCUIT).probe_at_ms
        if due is not None:
            self.fleet.wait(max(due - self.fleet.now, 0))
            self.fleet.ask(self.fleet.nodes[name], CIRCUIT, answered=answered)

    @rule(well=st.booleans(), ignored=st.sampled_from([None, None, None, "cut", "42901"]), heard=often)
    def the_probe_calls_and_reports(self, well: bool, ignored: str | None, heard: bool) -> None:
        self.fleet.well[CIRCUIT] = well
        for node in self.fleet.nodes.values():
            self.fleet.probe(node, CIRCUIT, Weight.IGNORED if ignored else None, ignored)
            self.fleet.report(node)
        if heard:
            self.reports_arrive_and_may_come_again()

    @rule(name=names)
    def a_probe_is_cancelled(self, name: str) -> None:
        self.fleet.release(self.fleet.nodes[name], CIRCUIT)

    @rule()
    def the_leader_dies(self) -> None:
        self.fleet.elect()

    @precondition(lambda self: self.fleet.deposed)
    @rule(at=which)
    def a_replaced_leader_wakes_up(self, at: int) -> None:
        self.fleet.return_of(self.fleet.deposed[at % len(self.fleet.deposed)])

    @rule(modes=st.lists(st.sampled_from([Mode.AUTO, Mode.AUTO, Mode.FORCED_OPEN, Mode.FORCED_CLOSED]), max_size=3))
    def an_operator_decides_and_may_think_again(self, modes: list[Mode]) -> None:
        for mode in modes:
            self.fleet.order(CIRCUIT, mode)

    @rule(name=names)
    def an_operator_interrupts_for_a_moment_and_a_node_asks(self, name: str) -> None:
        self.an_operator_decides_and_may_think_again([Mode.FORCED_OPEN, Mode.AUTO])
        self.fleet.ask(self.fleet.nodes[name], CIRCUIT)

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
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
