"""While the fleet cannot be heard a node judges for itself, takes nothing of the fleet's with it, and gives way when it is heard again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.clock import ManualClock
from backend.coordinator.alone import Alone
from backend.coordinator.options import Options
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions, Mode
from backend.providers.contract import ApiType
from backend.providers.outcomes import Weight

READ, OTHER = Circuit("A", Scope.READ), Circuit("B", Scope.READ)
CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
OPTIONS = Options(
    size=10, minimum_calls=10, in_a_row=3, quorum=5, wait_ms=1_000, longest_wait_ms=2_000, jitter=0.0, ramp_ms=0, probe_lease_ms=500
)


class Node:
    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
        self.mirrors = Mirrors(self.clock, draw=lambda: 0.5)
        self.mirrors.whole(Decisions("life", ()))
        self.alone = Alone(mirrors=self.mirrors, options=OPTIONS, clock=self.clock, draw=lambda: 0.0)
        self.changes: list[CircuitState] = []
        self.alone.on_change(lambda decision: self.changes.append(decision.state))

    def calls(self, weight: Weight | None, times: int = 1, circuit: Circuit = READ, *, began_ago: float = 0.0) -> None:
        for _ in range(times):
            began = self.clock.monotonic() - began_ago
            self.alone.notice(Noticed(circuit, 0, weight, began, began_ago, "BA01", ApiType.USER_SEARCH, None, None))
        self.alone.look()

    def fleet_says(self, state: CircuitState, epoch: int, mode: Mode = Mode.AUTO, expires_in_ms: int | None = 60_000) -> None:
        decision = Decision(circuit=READ, state=state, epoch=epoch, reason="r", mode=mode, expires_in_ms=expires_in_ms)
        assert self.mirrors.apply(Decisions("life", (decision,)))

    def wait(self, seconds: float) -> None:
        self.clock.move(timedelta(seconds=seconds))
        self.alone.look()

    def state(self, circuit: Circuit = READ) -> CircuitState:
        return self.mirrors.state_of(circuit)


@pytest.fixture
def node() -> Node:
    return Node()


def test_while_the_fleet_is_heard_nothing_is_judged_here(node: Node) -> None:
    node.calls(Weight.FAILURE, 20)
    assert node.state() is CLOSED
    node.alone.lost()
    node.alone.look()
    assert node.state() is CLOSED, "nor anything that ended before"
    assert node.alone.decides


def test_what_this_node_meets_alone_opens_here(node: Node) -> None:
    node.alone.lost()
    node.calls(Weight.FAILURE, 2)
    assert node.state() is CLOSED
    node.calls(Weight.FAILURE)
    assert (node.state(), node.state(OTHER)) == (OPEN, CLOSED)
    assert node.changes == [OPEN]


def test_calls_that_we_ended_say_nothing(node: Node) -> None:
    node.alone.lost()
    node.calls(None, 10)
    assert node.state() is CLOSED


def test_it_takes_no_epoch_and_what_the_fleet_says_next_stands(node: Node) -> None:
    node.fleet_says(CLOSED, 4)
    node.alone.lost()
    node.calls(Weight.FAILURE, 3)
    assert (node.state(), node.mirrors.of("A", READ.scope).epoch) == (OPEN, 4)
    node.alone.found()
    assert node.state() is CLOSED
    node.fleet_says(OPEN, 5)
    assert node.state() is OPEN


def test_what_the_fleet_had_opened_stands_again_as_far_as_its_time_has_come(node: Node) -> None:
    node.fleet_says(OPEN, 4, expires_in_ms=5_000)
    node.alone.lost()
    node.wait(6)
    assert node.state() is CLOSED, "it expired while nobody could say it again"
    node.calls(Weight.FAILURE, 3)
    assert node.state() is OPEN
    node.alone.found()
    assert node.state() is CLOSED


def test_an_open_circuit_of_the_fleet_comes_back_when_it_has_not_expired(node: Node) -> None:
    node.fleet_says(OPEN, 4)
    node.alone.lost()
    node.calls(Weight.FAILURE, 3, began_ago=1.0)  # calls that had begun before
    node.alone.found()
    assert (node.state(), node.mirrors.of("A", READ.scope).decision) == (
        OPEN,
        Decision(circuit=READ, state=OPEN, epoch=4, reason="r", expires_in_ms=60_000),
    )


def test_one_probe_a_wait_and_it_closes_what_is_well(node: Node) -> None:
    node.alone.lost()
    node.calls(Weight.FAILURE, 3)
    assert node.alone.ask(READ) is None, "its wait is not over"
    node.wait(1.0)
    granted = node.alone.ask(READ)
    assert granted is not None
    assert (granted.state, granted.epoch) == (HALF_OPEN, 0)
    assert node.state() is HALF_OPEN
    node.calls(Weight.FAILURE, 1, began_ago=1.5)
    assert node.state() is HALF_OPEN, "a call that began before says nothing of it"
    node.wait(0.1)
    node.calls(Weight.OK, 2)
    assert node.state() is CLOSED


def test_a_probe_that_fails_waits_longer(node: Node) -> None:
    node.alone.lost()
    node.calls(Weight.FAILURE, 3)
    node.wait(1.0)
    assert node.alone.ask(READ) is not None
    node.wait(0.1)
    node.calls(Weight.FAILURE, 2)
    assert node.state() is OPEN
    node.wait(1.5)
    assert node.alone.ask(READ) is None
    node.wait(0.6)
    assert node.alone.ask(READ) is not None
    node.alone.release(READ)
    assert node.state() is OPEN
    assert node.alone.ask(READ) is not None, "given back, it is free"


@pytest.mark.parametrize("mode", [Mode.FORCED_CLOSED, Mode.FORCED_OPEN])
def test_what_an_operator_has_forced_is_not_judged(node: Node, mode: Mode) -> None:
    state = OPEN if mode is Mode.FORCED_OPEN else CLOSED
    node.fleet_says(state, 4, mode, expires_in_ms=None)
    node.alone.lost()
    node.calls(Weight.FAILURE, 20)
    node.wait(100)
    assert node.state() is state


def test_nothing_is_asked_of_it_while_the_fleet_is_heard(node: Node) -> None:
    assert node.alone.ask(READ) is None
    node.alone.release(READ)
    node.alone.found()
    assert not node.alone.decides
