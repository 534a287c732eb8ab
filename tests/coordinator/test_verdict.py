"""The table is closed, and every step of it keeps what nodes rely on."""

from __future__ import annotations

from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json

from backend.coordinator.arrivals import (
    Arrived,
    EpochSeen,
    Heard,
    MaintenanceTold,
    ModeSet,
    ProbeAnswered,
    ProbeAsked,
    ProbeReleased,
    TimePassed,
)
from backend.coordinator.options import Options
from backend.coordinator.sample import Evidence
from backend.coordinator.standing import Reason, Standing, restored
from backend.coordinator.verdict import _TABLE, verdict
from backend.coordinator.windows import Share
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.outcomes import Weight

CIRCUIT = Circuit("A1MOABK001", Scope.READ)
OPTIONS = Options(longest_maintenance_ms=60_000)

small = st.integers(0, 12)
rates = st.one_of(st.none(), st.floats(0, 100))
nodes = st.frozensets(st.sampled_from("abc"))
evidences = st.builds(
    Evidence,
    counted=st.just(Share()),
    failure_rate=rates,
    slow_rate=rates,
    in_a_row=small,
    failed_at=nodes,
    slow_at=nodes,
    in_a_row_at=nodes,
    well_at=nodes,
    alive=st.integers(0, 3),
    listened_ms=st.sampled_from([0.0, 10_000.0]),
    left_out=st.just(frozenset[str]()),
)
arrivals = st.one_of(
    st.builds(Heard, evidences),
    st.just(TimePassed()),
    st.builds(ProbeAsked, st.sampled_from("abc"), st.booleans(), small),
    st.builds(ProbeAnswered, small, st.sampled_from(list(Weight)), st.booleans()),
    st.builds(ProbeReleased, small),
    st.builds(MaintenanceTold, small, st.floats(-10, 200_000)),
    st.builds(ModeSet, st.sampled_from(list(Mode)), st.sampled_from(["one", "two"])),
    st.builds(EpochSeen, small),
)
steps = st.lists(st.tuples(arrivals, st.sampled_from([0, 1, 500, 3_000, 5_000, 20_000]), st.floats(0, 0.99)), max_size=30)


def test_the_word_of_another_probe_does_not_count() -> None:
    standing = Standing(circuit=CIRCUIT, state=CircuitState.OPEN, epoch=4, probe_at_ms=0.0)
    half_open = verdict(standing, ProbeAsked("a"), 1.0, 0.0, OPTIONS).standing
    for fence in (3, 4, 6):
        assert verdict(half_open, ProbeAnswered(fence, Weight.FAILURE), 1.0, 0.0, OPTIONS).standing == half_open
    assert verdict(half_open, ProbeAnswered(5, Weight.FAILURE), 1.0, 0.0, OPTIONS).standing.reason == Reason.PROBE_FAILED


def test_every_state_knows_what_to_do_with_everything_that_can_arrive() -> None:
    assert set(_TABLE) == {(state, kind) for state in CircuitState for kind in get_args(Arrived)}


@settings(max_examples=150, deadline=None)
@given(steps)
def test_each_step_keeps_what_nodes_rely_on(played: list[tuple[Arrived, int, float]]) -> None:
    standing, now = Standing(circuit=CIRCUIT), 1_000_000.0
    for arrived, after, draw in played:
        now += after
        given_ = verdict(standing, arrived, now, draw, OPTIONS)
        then, decision = given_.standing, given_.decision
        assert then.epoch >= standing.epoch
        assert (decision is not None) == (then.epoch > standing.epoch)
        if (then.state, then.mode, then.reason) != (standing.state, standing.mode, standing.reason):
            assert decision is not None, "what changes is told"
        assert (then.probe is not None) == (then.state is CircuitState.HALF_OPEN)
        assert (then.probe_at_ms is not None) == (then.state is CircuitState.OPEN and then.mode is Mode.AUTO), "no OPEN without an end"
        assert then.counts_from <= then.epoch
        if standing.mode is not Mode.AUTO and not isinstance(arrived, ModeSet):
            assert (then.mode, then.state, then.reason) == (standing.mode, standing.state, standing.reason), "an operator's word stands"
        if decision is not None:
            assert (decision.epoch, decision.state, decision.mode) == (then.epoch, then.state, then.mode)
            assert (decision.expires_in_ms is not None) == (then.state is not CircuitState.CLOSED and then.mode is Mode.AUTO)
            assert min(decision.retry_in_ms or 0, decision.expires_in_ms or 0, decision.ramp_ms) >= 0
        assert json.decode(json.encode(then), type=Standing) == then, "it can be stored"
        standing = then


@settings(max_examples=100, deadline=None)
@given(steps, st.floats(-1e9, 1e9))
def test_a_leader_with_another_clock_waits_no_longer_than_it_would_by_itself(
    played: list[tuple[Arrived, int, float]], apart: float
) -> None:
    standing, now = Standing(circuit=CIRCUIT), 1_000_000.0
    for arrived, after, draw in played:
        now += after
        standing = verdict(standing, arrived, now, draw, OPTIONS).standing
    theirs = now + apart
    again = restored(standing, theirs, OPTIONS)
    assert (again.state, again.mode, again.epoch, again.reason) == (standing.state, standing.mode, standing.epoch, standing.reason)
    longest = max(OPTIONS.longest_wait_ms, OPTIONS.longest_maintenance_ms)
    for moment in (again.probe_at_ms, again.held_ms, again.probe.until_ms if again.probe else None):
        assert moment is None or moment <= theirs + longest
    assert again.since_ms <= theirs
    assert restored(again, theirs, OPTIONS) == again
