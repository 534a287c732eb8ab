"""One probe in the fleet: nodes with their real mirrors and guards, before the real rules. Leases and pauses are real time, and short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from backend.clock import SystemClock
from backend.coordinator.arrivals import ProbeAsked, ProbeReleased
from backend.coordinator.hearing import Hearing
from backend.coordinator.options import Options
from backend.coordinator.probing import Probing
from backend.coordinator.standing import decision_of
from backend.coordinator.verdict import Verdict, admitted
from backend.providers import outcomes
from backend.providers.calling.guard import CircuitGuard
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed
from backend.providers.calling.transport import Guard
from backend.providers.calls import Call, Scope
from backend.providers.circuits import CallEnded, Circuit, CircuitState, Decision, Decisions, Report
from backend.providers.outcomes import Failure, Finding, RspCode, Weight

BANK = Circuit("A1MOABK001", Scope.READ)
OPTIONS = Options(wait_ms=100, longest_wait_ms=200, probe_lease_ms=300, others_first_ms=0, minimum_calls=3, size=3, quorum=1, warm_up_ms=0)
PATIENCE = 5.0


@dataclass
class Bank:
    """What each call meets."""

    well: bool = False
    says: Failure | RspCode = Failure.CONNECT  # while it is not well
    slow: asyncio.Event | None = None  # calls wait for it
    calls: list[str] = field(default_factory=list)  # by which node
    most_at_once: int = 0
    _now: int = 0

    async def called(self, by: str) -> None:
        self.calls.append(by)
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            await (self.slow.wait() if self.slow else asyncio.sleep(0.01))
        finally:
            self._now -= 1
        if not self.well:
            raise outcomes.error_of(BANK.org_code, Finding(outcomes.outcome_of(self.says).trouble, self.says))


class Fleet:
    """The leader's rules, and a word that reaches every node at once."""

    def __init__(self, bank: Bank, options: Options = OPTIONS) -> None:
        self.clock = SystemClock()
        self.options = options
        self.hearing = Hearing(options, [], now=self.now())
        self.bank = bank
        self.nodes: list[Node] = []
        self.waiting = 0  # people
        self.asked: list[bool] = []  # whether somebody waited, as nodes said who asked

    def now(self) -> float:
        return self.clock.monotonic() * 1000

    def said(self, verdicts: list[Verdict]) -> None:
        for decision in [given.decision for given in verdicts if given.decision is not None]:
            for node in self.nodes:
                node.hears(decision)

    def opens(self) -> None:
        ends = tuple(CallEnded(BANK, 0, Weight.FAILURE, 10.0) for _ in range(3))
        self.said(self.hearing.heard(Report(node="elsewhere", number=1, calls=ends), self.now(), lambda: 0.0))
        assert self.state is CircuitState.OPEN

    def lets_time_pass(self) -> None:
        self.said(self.hearing.passed(self.now(), lambda: 0.0))

    @property
    def state(self) -> CircuitState:
        return self.hearing.standing(BANK).state

    @asynccontextmanager
    async def of(self, *names: str) -> AsyncIterator[None]:
        self.nodes = [Node(name, self) for name in names]
        try:
            yield
        finally:
            await asyncio.gather(*(node.probing.close() for node in self.nodes))


class Node:
    """One process: asks the leader, calls the bank through its guard, reports what came of it."""

    def __init__(self, name: str, fleet: Fleet) -> None:
        self.name, self.fleet = name, fleet
        self.mirrors = Mirrors(fleet.clock)
        self.mirrors.whole(Decisions("life", ()))
        guard = CircuitGuard(mirrors=self.mirrors, notices=self, clock=fleet.clock, slow_after=lambda _: 3.0)
        self.probing = Probing(
            asking=self,
            probed=self,
            guards=guard,
            state_of=self.mirrors.state_of,
            clock=fleet.clock,
            options=fleet.options,
            draw=lambda: 0.0,
        )
        self.released: list[int] = []
        self._reports = 0

    def hears(self, decision: Decision) -> None:
        self.mirrors.apply(Decisions("life", (decision,)))
        self.probing.hear(decision)

    def notice(self, noticed: Noticed) -> None:
        self._reports += 1
        if noticed.weight is not None:
            ended = CallEnded(noticed.circuit, noticed.epoch, noticed.weight, 1.0, reason=noticed.reason)
            report = Report(node=self.name, number=self._reports, calls=(ended,))
            self.fleet.said(self.fleet.hearing.heard(report, self.fleet.now(), lambda: 0.0))

    async def ask(self, circuit: Circuit, *, wanted: bool = True, epoch: int = 0) -> Decision | None:
        self.fleet.asked.append(wanted)
        given = self.fleet.hearing.tell(circuit, ProbeAsked(self.name, wanted, epoch), self.fleet.now(), 0.0)
        self.fleet.said([given])
        return decision_of(given.standing, self.fleet.now(), OPTIONS) if admitted(given, self.name) else None

    async def release(self, circuit: Circuit, fence: int) -> None:
        self.released.append(fence)
        self.fleet.said([self.fleet.hearing.tell(circuit, ProbeReleased(fence), self.fleet.now(), 0.0)])

    async def ask_apis(self, circuit: Circuit, guard: Guard) -> None:
        await guard.through(circuit.org_code, _call("CM01"), self._attempt)

    async def is_awaited(self, circuit: Circuit) -> bool:
        return self.fleet.waiting > 0

    async def make_waiting_call(self, circuit: Circuit, guard: Guard) -> bool:
        if self.fleet.waiting:
            await guard.through(circuit.org_code, _call("BA01"), self._attempt)
            self.fleet.waiting -= 1
            return True
        return False

    async def _attempt(self) -> None:
        await self.fleet.bank.called(self.name)


def _call(api_code: str) -> Call[None]:
    return Call(api_code=api_code, scope=Scope.READ, method="GET", path="/", read=lambda _code, _body: None)


async def until(condition: Callable[[], object], meanwhile: Callable[[], Awaitable[None] | None] = lambda: None) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            meanwhile()
            await asyncio.sleep(0.01)


async def test_one_node_probes_and_the_waiting_call_is_made_before_the_circuit_closes() -> None:
    fleet = Fleet(Bank(well=True))
    fleet.waiting = 1
    async with fleet.of("one", "two", "three"):
        fleet.opens()
        await until(lambda: fleet.state is CircuitState.CLOSED)
    assert len(set(fleet.bank.calls)) == 1
    assert len(fleet.bank.calls) == 2  # the APIs, and the call of the person who waited
    assert (fleet.waiting, fleet.bank.most_at_once) == (0, 1)


async def test_nobody_waits_and_the_round_is_made_all_the_same() -> None:
    fleet = Fleet(Bank(well=True))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: fleet.state is CircuitState.CLOSED)
    assert len(fleet.bank.calls) == 2


async def test_a_sick_bank_is_called_once_per_wait_and_closes_when_it_is_well() -> None:
    fleet = Fleet(Bank())
    fleet.waiting = 1
    async with fleet.of("one", "two", "three"):
        fleet.opens()
        await until(lambda: fleet.hearing.standing(BANK).opened == 4)
        assert len(fleet.bank.calls) == 3  # each opened it once more
        assert fleet.waiting == 1  # nobody fails by a probe
        fleet.bank.well = True
        await until(lambda: fleet.state is CircuitState.CLOSED)
    assert fleet.bank.most_at_once == 1


@pytest.mark.parametrize("says", [RspCode.QUOTA, RspCode.OUT_OF_WINDOW])
async def test_a_bank_that_answers_not_now_is_well_and_called_once(says: RspCode) -> None:
    fleet = Fleet(Bank(says=says))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: fleet.state is CircuitState.CLOSED, fleet.lets_time_pass)
    assert len(fleet.bank.calls) == 1


async def test_calls_that_we_cut_ourselves_are_probed_in_growing_waits() -> None:
    fleet = Fleet(Bank(says=Failure.CUT), replace(OPTIONS, probe_lease_ms=50, wait_ms=100, longest_wait_ms=60_000, jitter=0.0))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: len(fleet.bank.calls) == 3, fleet.lets_time_pass)
        await until(lambda: fleet.state is CircuitState.OPEN, fleet.lets_time_pass)
    standing = fleet.hearing.standing(BANK)
    assert (standing.lost, standing.reason) == (3, "probe_lost")
    assert standing.probe_at_ms is not None
    assert standing.probe_at_ms - standing.since_ms == pytest.approx(400)


async def test_a_probe_keeps_its_lease_while_a_call_takes_long() -> None:
    fleet = Fleet(Bank(well=True, slow=asyncio.Event()))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: fleet.bank.calls)
        for _ in range(20):  # two leases
            await asyncio.sleep(OPTIONS.probe_lease_ms / 10_000)
            fleet.lets_time_pass()
        assert fleet.state is CircuitState.HALF_OPEN
        assert fleet.bank.calls in (["one"], ["two"])
        assert fleet.bank.slow is not None
        fleet.bank.slow.set()
        await until(lambda: fleet.state is CircuitState.CLOSED)


async def test_the_next_node_probes_when_the_first_was_killed() -> None:
    fleet = Fleet(Bank(well=True, slow=asyncio.Event()))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: fleet.bank.calls)
        killed = next(node for node in fleet.nodes if node.name == fleet.bank.calls[0])
        killed.release = _said_nothing  # type: ignore[method-assign]  # a killed process gives nothing back
        await killed.probing.close()
        fleet.bank.slow = None
        await until(lambda: fleet.state is CircuitState.CLOSED, fleet.lets_time_pass)
    assert len(set(fleet.bank.calls)) == 2


async def test_a_node_that_leaves_gives_its_probe_back() -> None:
    fleet = Fleet(Bank(well=True, slow=asyncio.Event()))
    async with fleet.of("one"):
        fleet.opens()
        await until(lambda: fleet.bank.calls)
        [node] = fleet.nodes
        await node.probing.close()
        assert node.released
        assert fleet.state is CircuitState.OPEN  # free for the next, at once


async def test_without_automatic_transition_nobody_probes_until_somebody_waits() -> None:
    fleet = Fleet(Bank(well=True), replace(OPTIONS, automatic=False))
    async with fleet.of("one", "two"):
        fleet.opens()
        await until(lambda: len(fleet.asked) >= 4)
        assert (fleet.bank.calls, fleet.state) == ([], CircuitState.OPEN)
        assert not any(fleet.asked)
        fleet.waiting = 1
        await until(lambda: fleet.state is CircuitState.CLOSED)
    assert len(fleet.bank.calls) == 2
    assert fleet.waiting == 0


async def test_the_only_node_asks_again_as_soon_as_others_have_had_their_time() -> None:
    """Before that nobody would answer, and waiting for an answer would cost more."""
    fleet = Fleet(Bank(), replace(OPTIONS, others_first_ms=200, probe_lease_ms=90))
    async with fleet.of("one"):
        fleet.opens()
        await until(lambda: len(fleet.bank.calls) == 3)
    assert len(fleet.asked) == 3


async def test_a_fault_of_ours_in_a_waiting_job_keeps_no_circuit_open() -> None:
    """Whoever has waited longest is tried first, each time: their job must not stand between a well bank and everybody else."""
    fleet = Fleet(Bank(well=True))
    async with fleet.of("one", "two"):
        for node in fleet.nodes:
            node.make_waiting_call = _stumbled  # type: ignore[method-assign]
        fleet.opens()
        await until(lambda: fleet.state is CircuitState.CLOSED)
    assert len(fleet.bank.calls) == 2


async def test_a_fault_of_ours_in_asking_ends_no_nodes_probing() -> None:
    fleet = Fleet(Bank(well=True), replace(OPTIONS, automatic=False))
    async with fleet.of("one"):
        [node] = fleet.nodes
        node.is_awaited = _stumbled  # type: ignore[method-assign, assignment]
        fleet.opens()
        await asyncio.sleep(0.2)
        del node.is_awaited  # type: ignore[method-assign]
        fleet.waiting = 1
        await until(lambda: fleet.state is CircuitState.CLOSED)


async def _stumbled(*_: object) -> bool:
    raise RuntimeError("not the institution's")


async def _said_nothing(_circuit: Circuit, _fence: int) -> None: ...
