"""What was measured about pybreaker, trap by trap, and what a node believes after any order of decisions."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker, CircuitBreakerError

from backend.clock import ManualClock
from backend.providers.calling.mirror import FIRST_SHARE, MOMENTS, ORPHANED, SPREAD, Mirror, Mirrors
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions, Mode
from backend.providers.outcomes import Failure
from tests.providers.given import BANK, NOW

CIRCUIT = Circuit(BANK, Scope.READ)
CLOSED, OPEN, HALF_OPEN = CircuitState


def decision(state: CircuitState, epoch: int, **more: Any) -> Decision:
    return Decision(circuit=CIRCUIT, state=state, epoch=epoch, reason="test", **more)


def told(*decisions: Decision, lineage: str = "first") -> Decisions:
    return Decisions(lineage, decisions)


class Node:
    """One process's circuits, and its clock and chance."""

    def __init__(self, *decisions: Decision) -> None:
        self.clock = ManualClock(NOW)
        self.drawn = 0.0
        self.mirrors = Mirrors(self.clock, draw=lambda: self.drawn)
        self.mirrors.whole(told(*decisions))

    @property
    def mirror(self) -> Mirror:
        return self.mirrors.of(BANK, Scope.READ)

    @property
    def state(self) -> CircuitState:
        return self.mirrors.state_of(CIRCUIT)

    def passes(self, *, probe: bool = False) -> bool:
        """Whether a call gets through."""
        self.mirror.settle(self.clock.monotonic())
        try:
            with (self.mirror.trial if probe else self.mirror.breaker).calling():
                return True
        except CircuitBreakerError:
            return False

    def move(self, seconds: float) -> None:
        self.clock.move(timedelta(seconds=seconds))


# The traps.


async def test_half_open_admits_nobody_but_the_probe() -> None:
    node = Node(decision(HALF_OPEN, 1))
    assert not any(node.passes() for _ in range(100))
    assert node.passes(probe=True)
    assert not any(node.passes() for _ in range(100))


@pytest.mark.parametrize("probe", [False, True])
@pytest.mark.parametrize("state", list(CircuitState))
def test_pybreaker_knows_the_state_that_was_decided(state: CircuitState, probe: bool) -> None:
    mirror = Node(decision(state, 1)).mirror
    breaker = mirror.trial if probe else mirror.breaker
    assert breaker.current_state == {CLOSED: STATE_CLOSED, OPEN: STATE_OPEN, HALF_OPEN: STATE_HALF_OPEN}[state]
    assert breaker.state.name == breaker.current_state
    assert (breaker.fail_counter, breaker.success_counter) == (0, 0)


@pytest.mark.parametrize("ends", [CLOSED, OPEN, HALF_OPEN])
@pytest.mark.parametrize("begins", [CLOSED, HALF_OPEN])
@pytest.mark.parametrize("failure", [None, ValueError, asyncio.CancelledError])
def test_late_results_failures_and_cancellations_move_nothing(
    begins: CircuitState, ends: CircuitState, failure: type[BaseException] | None
) -> None:
    node = Node(decision(begins, 1))
    slow = node.mirror.trial.calling()
    slow.__enter__()
    node.mirrors.apply(told(decision(ends, 2)))
    if failure is None:
        slow.__exit__(None, None, None)
    else:
        assert not slow.__exit__(failure, failure(), None)  # it passes as itself, never as a CircuitBreakerError
    assert node.state is ends
    for breaker in (node.mirror.breaker, node.mirror.trial):
        assert breaker.state.name == breaker.current_state == node.mirror.state
    assert node.passes() is (ends is CLOSED)


async def test_a_cancelled_probe_neither_closes_nor_opens() -> None:
    node = Node(decision(HALF_OPEN, 1))

    async def probe() -> None:
        with node.mirror.trial.calling():
            await asyncio.Event().wait()

    task = asyncio.create_task(probe())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert node.state is HALF_OPEN
    assert node.passes(probe=True)


def test_no_exception_is_excluded_since_pybreaker_counts_those_as_success() -> None:
    mirror = Node(decision(HALF_OPEN, 1)).mirror
    assert mirror.breaker.excluded_exceptions == mirror.trial.excluded_exceptions == ()
    for _ in range(mirror.trial.fail_max * 3):
        with pytest.raises(KeyError), mirror.trial.calling():
            raise KeyError
    assert mirror.standing is HALF_OPEN


def test_any_number_of_failures_in_one_process_opens_nothing() -> None:
    node = Node()
    for _ in range(node.mirror.breaker.fail_max * 3):
        with pytest.raises(ValueError, match="down"), node.mirror.breaker.calling():
            raise ValueError("down")
    assert node.passes()


def test_an_open_circuit_neither_recurses_nor_overflows_whatever_its_timeout() -> None:
    node = Node(decision(OPEN, 1))
    for timeout in (0, 60, 10**9):
        node.mirror.breaker.reset_timeout = timeout
        assert not node.passes()
    assert node.mirror.breaker.current_state == STATE_OPEN


def test_what_pybreaker_would_write_is_ignored() -> None:
    node = Node(decision(OPEN, 1))
    for write in (node.mirror.breaker.close, node.mirror.breaker.half_open, node.mirror.breaker.open):
        write()
        assert node.state is OPEN
        assert not node.passes()


# The same with pybreaker as it comes: should one of these fail, a part of the mirror may have become needless.


def test_stock_half_open_admits_everybody() -> None:
    stock = CircuitBreaker()
    stock.half_open()
    calls = [stock.calling() for _ in range(100)]
    for call in calls:
        call.__enter__()
    for call in calls:
        call.__exit__(None, None, None)


def test_a_late_result_acts_on_the_next_state_of_stock_pybreaker() -> None:
    stock = CircuitBreaker()
    stock.half_open()
    slow = stock.calling()
    slow.__enter__()
    stock.open()
    slow.__exit__(None, None, None)
    assert stock.current_state == STATE_CLOSED


@pytest.mark.parametrize(("exclude", "state"), [((), STATE_OPEN), ((asyncio.CancelledError,), STATE_CLOSED)])
def test_a_cancelled_probe_opens_stock_pybreaker_or_closes_it(exclude: tuple[type[BaseException], ...], state: str) -> None:
    stock = CircuitBreaker(exclude=list(exclude), throw_new_error_on_trip=False)
    stock.half_open()
    with pytest.raises(asyncio.CancelledError), stock.calling():
        raise asyncio.CancelledError
    assert stock.current_state == state


# Which decision stands.


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(list(CircuitState))), min_size=1, unique_by=lambda each: each[0]), st.randoms()
)
def test_any_order_and_any_repetition_of_decisions_ends_at_the_highest_epoch(decided: list[tuple[int, CircuitState]], random: Any) -> None:
    node = Node()
    messages = [decision(state, epoch) for epoch, state in decided] * 2
    random.shuffle(messages)
    while messages:
        size = random.randint(1, 3)
        deliver = random.choice((node.mirrors.apply, node.mirrors.whole))  # a whole state may be older than what was published
        deliver(told(*messages[:size]))
        messages = messages[size:]
    epoch, state = max(decided)
    assert (node.mirror.epoch, node.state) == (epoch, state)


def test_circuits_stand_for_themselves() -> None:
    node = Node(decision(OPEN, 1))
    assert node.mirrors.state_of(Circuit(BANK, Scope.TOKEN)) is CLOSED
    assert node.mirrors.state_of(Circuit("A1MOABK002", Scope.READ)) is CLOSED
    assert {mirror.circuit for mirror in node.mirrors} >= {CIRCUIT}


def test_nothing_is_believed_before_the_whole_state_was_read_nor_of_another_store() -> None:
    clock = ManualClock(NOW)
    mirrors = Mirrors(clock)
    assert not mirrors.apply(told(decision(OPEN, 1)))
    mirrors.whole(told())
    assert not mirrors.apply(told(decision(OPEN, 9), lineage="older"))
    assert mirrors.state_of(CIRCUIT) is CLOSED
    assert mirrors.apply(told(decision(OPEN, 1)))
    assert mirrors.state_of(CIRCUIT) is OPEN


def test_a_store_that_was_lost_may_begin_its_epochs_again_and_closes_nothing_by_forgetting_it() -> None:
    node = Node(decision(OPEN, 17, expires_in_ms=30_000))
    node.mirrors.whole(told(lineage="second"))
    assert node.state is OPEN
    assert not node.mirrors.apply(told(decision(HALF_OPEN, 18)))  # a late message of the lost store
    assert node.mirrors.apply(told(decision(CLOSED, 1), lineage="second"))
    assert (node.state, node.mirror.epoch) == (CLOSED, 1)


def test_a_forced_decision_of_a_lost_store_does_not_stand_for_ever() -> None:
    node = Node(decision(OPEN, 17, mode=Mode.FORCED_OPEN))
    node.move(10_000)
    assert node.state is OPEN
    node.mirrors.whole(told(lineage="second"))
    node.move(ORPHANED - 0.1)
    assert node.state is OPEN
    node.move(0.2)
    assert node.state is CLOSED


# What ends by itself.


@pytest.mark.parametrize("state", [OPEN, HALF_OPEN])
def test_a_decision_of_which_nothing_more_is_heard_expires(state: CircuitState) -> None:
    node = Node(decision(state, 3, expires_in_ms=20_000))
    node.move(19.9)
    assert not node.passes()
    node.move(0.1)
    assert node.passes()
    assert (node.state, node.mirror.epoch, node.mirror.decision) == (CLOSED, 3, None)
    node.mirrors.whole(told(decision(state, 3, expires_in_ms=20_000)))  # no news: the store outlives whoever decides
    assert node.passes()
    node.mirrors.apply(told(decision(state, 4, expires_in_ms=20_000)))
    assert not node.passes()


def test_an_open_circuit_that_expires_ramps_as_its_decision_says() -> None:
    node = Node(decision(OPEN, 1, expires_in_ms=1_000, ramp_ms=10_000))
    node.drawn = 0.5
    node.move(1)
    assert not node.passes()
    node.move(9)
    assert node.passes()


def test_a_ramp_lets_a_growing_share_through() -> None:
    node = Node(decision(CLOSED, 2, ramp_ms=10_000))
    shares = []
    for _ in range(11):
        admitted = 0
        for part in range(1_000):
            node.drawn = part / 1_000
            admitted += node.passes()
        shares.append(admitted / 1_000)
        node.move(1)
    assert shares[0] == pytest.approx(FIRST_SHARE, abs=0.002)
    assert shares[5] == pytest.approx((1 + FIRST_SHARE) / 2, abs=0.002)
    assert shares[10] == 1
    assert shares == sorted(shares)
    assert node.mirror.settled
    assert node.mirror.breaker.listeners == ()  # a gate through which all pass is in nobody's way


def test_a_circuit_that_opens_during_its_ramp_is_open_and_a_second_ramp_begins_anew() -> None:
    node = Node(decision(CLOSED, 2, ramp_ms=10_000))
    node.drawn = 0.5
    node.move(9)
    assert node.passes()
    node.mirrors.apply(told(decision(OPEN, 3)))
    assert not node.passes()
    node.mirrors.apply(told(decision(CLOSED, 4, ramp_ms=10_000)))
    assert not node.passes()


# When the refused come back.


def test_those_refused_come_back_at_moments_of_their_own_after_a_probe_may_be_made() -> None:
    node = Node(decision(OPEN, 1, retry_in_ms=5_000))
    moments = []
    for part in range(MOMENTS):
        node.drawn = part / MOMENTS
        moments.append(node.mirror.comes_back(node.clock.monotonic()))
    assert moments[0] == NOW + timedelta(seconds=5)
    assert len(set(moments)) == MOMENTS
    assert all(moment and moment < NOW + timedelta(seconds=5 + SPREAD) for moment in moments)


@pytest.mark.parametrize("told_state", [decision(OPEN, 1, retry_in_ms=5_000), decision(HALF_OPEN, 1)])
def test_while_the_probe_is_under_way_they_come_back_a_little_later_never_at_once(told_state: Decision) -> None:
    node = Node(told_state)
    node.move(6)
    back = node.mirror.comes_back(node.clock.monotonic())
    assert back == node.clock.now() + timedelta(seconds=SPREAD)


def test_an_open_circuit_that_nobody_tries_by_itself_names_no_moment() -> None:
    node = Node(decision(OPEN, 1, mode=Mode.FORCED_OPEN))
    assert node.mirror.comes_back(node.clock.monotonic()) is None
    assert node.mirror.refusal is Failure.CIRCUIT_OPEN


def test_those_refused_by_a_ramp_come_back_before_its_end_spread_over_what_is_left() -> None:
    node = Node(decision(CLOSED, 1, ramp_ms=10_000))
    node.move(4)
    for drawn, seconds in ((0.0, 6), (0.5, 3)):
        node.drawn = drawn
        assert node.mirror.comes_back(node.clock.monotonic()) == node.clock.now() + timedelta(seconds=seconds)
    assert node.mirror.refusal is Failure.CIRCUIT_RAMP
