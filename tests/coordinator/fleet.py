"""A fleet in memory: nodes with mirrors, a network that loses, doubles and reorders, a store, leaders that die and come back late.

Nodes, messages and leaders do what the real ones do, and nothing else decides: the rules under test are the only ones that judge. `now` is
one clock for all. Whatever a promise forbids is asserted where it would happen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.coordinator.arrivals import Arrived, ModeSet, ProbeAsked, ProbeReleased
from backend.coordinator.hearing import Hearing
from backend.coordinator.options import Options
from backend.coordinator.standing import Standing, decision_of, probe_is_due
from backend.coordinator.verdict import Verdict, admitted
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, CircuitState, Decision, Mode, Report
from backend.providers.outcomes import Weight

CIRCUITS = (Circuit("A", Scope.READ), Circuit("B", Scope.READ))
OPTIONS = Options(size=6, minimum_calls=4, in_a_row=3, warm_up_ms=500, alone_after_ms=3_000, alive_ms=10_000, expires_ms=10_000)


@dataclass
class Mirror:
    """What a node believes of a circuit: only newer epochs, for as long as it was told."""

    epoch: int = 0
    state: CircuitState = CircuitState.CLOSED
    mode: Mode = Mode.AUTO
    until: float | None = None

    def apply(self, decision: Decision, now: float) -> None:
        if decision.epoch <= self.epoch:
            return
        self.epoch, self.state, self.mode = decision.epoch, decision.state, decision.mode
        self.until = None if decision.expires_in_ms is None else now + decision.expires_in_ms

    def closed(self, now: float) -> bool:
        return self.state is CircuitState.CLOSED or (self.until is not None and now >= self.until)


@dataclass
class Node:
    """A process that calls institutions."""

    name: str
    number: int = 0
    mirrors: dict[Circuit, Mirror] = field(default_factory=lambda: {circuit: Mirror() for circuit in CIRCUITS})
    ended: list[CallEnded] = field(default_factory=list)
    begun: list[tuple[Circuit, int]] = field(default_factory=list)  # calls that have not ended
    leases: dict[Circuit, tuple[int, float]] = field(default_factory=dict)  # the probe that it believes to have: fence, until

    def probes(self, circuit: Circuit, now: float) -> int | None:
        """The fence of its live probe; None: it has none."""
        fence, until = self.leases.get(circuit, (0, 0.0))
        return fence if now < until else None


class Store:
    """What outlives a leader. Takes the word of the newest leader only."""

    def __init__(self) -> None:
        self.fence = 0
        self.standings: dict[Circuit, Standing] = {}
        self.said: dict[tuple[Circuit, int], Decision] = {}

    def put(self, fence: int, given: Verdict) -> bool:
        if fence < self.fence:
            return False
        before, after = self.standings.get(given.standing.circuit), given.standing
        assert before is None or after.epoch >= before.epoch, "a stored epoch went back"
        self.standings[after.circuit] = after
        if given.decision is not None:
            key = (after.circuit, given.decision.epoch)
            assert key not in self.said, "two decisions of one epoch"
            self.said[key] = given.decision
        return True


@dataclass
class Leader:
    fence: int
    hearing: Hearing
    heard: set[tuple[str, int]] = field(default_factory=set)


class Fleet:
    """Everything, and the moment."""

    def __init__(self, names: str = "abc") -> None:
        self.now = 1_000_000.0
        self.nodes = {name: Node(name) for name in names}
        self.well = dict.fromkeys(CIRCUITS, True)
        self.ordered: dict[Circuit, Mode] = {}  # what operators said last
        self.store = Store()
        self.reports: list[Report] = []  # on their way
        self.decisions: list[tuple[str, Decision]] = []
        self.deposed: list[Leader] = []
        self.leader = self._elected()

    def draw(self) -> float:
        return 0.5

    # --- leaders

    def elect(self) -> None:
        """The leader is silent; another takes over, and knows what was stored."""
        self.deposed.append(self.leader)
        self.leader = self._elected()

    def return_of(self, old: Leader) -> None:
        """A leader that was replaced wakes up, and does what it was about to do."""
        given = old.hearing.passed(self.now, self.draw)
        for circuit in CIRCUITS:
            given.append(old.hearing.tell(circuit, ProbeAsked("z"), self.now, 0.5))
        assert not any(self._carried_out(old, each) for each in given), "the word of a replaced leader was taken"

    def wait(self, ms: float) -> None:
        self.now += ms
        for given in self.leader.hearing.passed(self.now, self.draw):
            self._carried_out(self.leader, given)

    # --- nodes

    def begin(self, node: Node, circuit: Circuit) -> None:
        """A call begins, if the node's mirror lets it through."""
        if node.mirrors[circuit].closed(self.now):
            node.begun.append((circuit, node.mirrors[circuit].epoch))

    def end(self, node: Node, at: int, weight: Weight | None = None) -> None:
        circuit, epoch = node.begun.pop(at)
        node.ended.append(CallEnded(circuit, epoch, weight or self.answer(circuit), 10.0))

    def report(self, node: Node) -> None:
        if node.ended:
            node.number += 1
            self.reports.append(Report(node=node.name, number=node.number, calls=tuple(node.ended)))
            node.ended.clear()

    def read_all(self, node: Node) -> None:
        """The periodic look at the whole state."""
        for circuit, standing in self.store.standings.items():
            self._applied(node, decision_of(standing, self.now, OPTIONS), circuit)

    def answer(self, circuit: Circuit) -> Weight:
        return Weight.OK if self.well[circuit] else Weight.FAILURE

    # --- messages

    def deliver_report(self, at: int) -> None:
        """Delivered, and still on its way: it may come again."""
        report = self.reports[at]
        again = (report.node, report.number) in self.leader.heard
        before = self._counted() if again else None
        given = self.leader.hearing.heard(report, self.now, self.draw)
        if again:
            assert not given, "a report that was counted decided once more"
            assert self._counted() == before, "a report was counted twice"
        self.leader.heard.add((report.node, report.number))
        for each in given:
            self._carried_out(self.leader, each)

    def deliver_decision(self, at: int) -> None:
        name, decision = self.decisions[at]
        self._applied(self.nodes[name], decision, decision.circuit)

    # --- probes and operators

    def ask(self, node: Node, circuit: Circuit, *, answered: bool = True) -> None:
        """Asks for the probe, or for more time; the answer may be lost."""
        given = self.leader.hearing.tell(circuit, ProbeAsked(node.name, epoch=node.mirrors[circuit].epoch), self.now, 0.5)
        taken = self._carried_out(self.leader, given)
        if taken and answered and admitted(given, node.name):
            probe = given.standing.probe
            assert probe is not None
            node.leases[circuit] = (probe.fence, self.now + OPTIONS.probe_lease_ms)
            holders = [each.name for each in self.nodes.values() if each.probes(circuit, self.now) is not None]
            assert holders == [node.name], f"two live probes: {holders}"

    def probe(self, node: Node, circuit: Circuit, weight: Weight | None = None, reason: str | None = None) -> None:
        """The probe's next call."""
        fence = node.probes(circuit, self.now)
        if fence is not None:
            node.ended.append(CallEnded(circuit, fence, weight or self.answer(circuit), 10.0, reason=reason))

    def release(self, node: Node, circuit: Circuit) -> None:
        fence = node.probes(circuit, self.now)
        node.leases.pop(circuit, None)
        if fence is not None:
            self._told(circuit, ProbeReleased(fence))

    def order(self, circuit: Circuit, mode: Mode) -> None:
        """An operator is answered once it is stored."""
        self.ordered[circuit] = mode
        self._told(circuit, ModeSet(mode, "because"))

    # --- the end

    def heal(self) -> None:
        """Institutions are well, messages flow, somebody waits for each. For a minute at most."""
        self.well = dict.fromkeys(CIRCUITS, True)
        self.reports.clear()
        for second in range(60):
            if second > 5 and all(standing.state is CircuitState.CLOSED for standing in self.store.standings.values()):
                break
            self.wait(1_000)
            for node in self.nodes.values():
                self.read_all(node)
                self._goes_on(node)
            for at in range(len(self.reports)):
                self.deliver_report(at)
            self.reports.clear()
        for node in self.nodes.values():
            self.read_all(node)

    def _goes_on(self, node: Node) -> None:
        for circuit in CIRCUITS:
            standing = self.leader.hearing.standing(circuit)
            if probe_is_due(standing, self.now) or node.probes(circuit, self.now):
                self.ask(node, circuit)
            self.probe(node, circuit)
            self.begin(node, circuit)
        for _ in range(len(node.begun)):
            self.end(node, 0)
        self.report(node)

    def _elected(self) -> Leader:
        self.store.fence += 1
        return Leader(self.store.fence, Hearing(OPTIONS, self.store.standings.values(), now=self.now))

    def _told(self, circuit: Circuit, arrived: Arrived) -> None:
        self._carried_out(self.leader, self.leader.hearing.tell(circuit, arrived, self.now, 0.5))

    def _carried_out(self, leader: Leader, given: Verdict) -> bool:
        """Stored first, told then."""
        if not self.store.put(leader.fence, given):
            return False
        if given.decision is not None:
            self.decisions += [(name, given.decision) for name in self.nodes]
        return True

    def _applied(self, node: Node, decision: Decision, circuit: Circuit) -> None:
        mirror = node.mirrors[circuit]
        before = mirror.epoch
        mirror.apply(decision, self.now)
        assert mirror.epoch >= before, "a mirror's epoch went back"

    def _counted(self) -> list[object]:
        hearing = self.leader.hearing
        return [(hearing.evidence(circuit, self.now).counted, hearing.standing(circuit).probe) for circuit in CIRCUITS]
