from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import Trouble
from backend.providers.calling.retrying import A_SECOND, EARNED, LONGEST_JITTER, LONGEST_WAIT, MOST_SAVED, Budget, earned, pause, spent
from backend.providers.outcomes import CATALOGUE, Fault, Weight

DRAWS = st.floats(0, 1, exclude_max=True)
STEPS = st.lists(st.tuples(st.sampled_from(["call", "repeat"]), st.floats(0, 5)), max_size=300)


@given(STEPS)
def test_repeats_never_exceed_the_share_that_calls_and_time_have_earned(steps: list[tuple[str, float]]) -> None:
    budget, now, calls, repeats = Budget(), 0.0, 0, 0
    for kind, seconds in steps:
        now += seconds
        if kind == "call":
            budget, calls = earned(budget), calls + 1
        elif (after := spent(budget, now)) is not None:
            budget, repeats = after, repeats + 1
        assert 0 <= budget.repeats <= MOST_SAVED
        assert repeats <= MOST_SAVED + EARNED * calls + A_SECOND * now + 1e-6


def test_a_budget_that_is_spent_fills_again_with_time() -> None:
    budget = Budget(repeats=0.0, at=100.0)
    assert spent(budget, 100.0 + 0.9 / A_SECOND) is None
    assert spent(budget, 100.0 + 1.1 / A_SECOND) is not None


def test_a_clock_that_stands_or_steps_back_earns_nothing() -> None:
    assert spent(Budget(repeats=0.5, at=100.0), 50.0) is None


@given(st.sampled_from(sorted(CATALOGUE)), st.none() | st.floats(-10, 4000), st.floats(-1, 60), DRAWS)
def test_a_pause_honours_what_was_asked_and_leaves_time_for_the_call(
    reason: str, retry_after: float | None, left: float, draw: float
) -> None:
    seconds = pause(reason, retry_after, left, draw)
    if seconds is not None:
        asked = max(retry_after or 0.0, 0.0)
        assert asked <= seconds <= asked + LONGEST_JITTER
        assert asked <= LONGEST_WAIT
        assert seconds <= left / 2
        outcome = CATALOGUE[reason]
        assert outcome.fault is Fault.THEIRS or outcome.trouble is Trouble.BUSY


@given(st.floats(0, 0.99), st.floats(0, 0.99))
def test_the_whole_pause_is_drawn(one: float, other: float) -> None:
    pauses = [pause("reset", None, 20.0, draw) for draw in (one, other)]
    assert None not in pauses
    assert (pauses[0] == pauses[1]) == (one * LONGEST_JITTER == other * LONGEST_JITTER)


@pytest.mark.parametrize("reason", ["connect", "reset", "50001", "50007", "server_error", "temporarily_unavailable", "http_502"])
def test_what_broke_may_be_whole_in_a_moment(reason: str) -> None:
    assert pause(reason, None, 20.0, 0.5) is not None


@pytest.mark.parametrize("reason", ["http_429", "42901"])
def test_too_many_calls_are_repeated_only_where_it_is_said_until_when(reason: str) -> None:
    assert pause(reason, None, 20.0, 0.5) is None
    assert pause(reason, 1.0, 20.0, 0.0) == 1.0
    assert pause(reason, LONGEST_WAIT + 1, 20.0, 0.0) is None


@pytest.mark.parametrize(
    "reason",
    [
        "tls",
        "peer",
        "address",
        "unknown",
        "deadline",
        "cut",
        "malformed",
        "oversize",
        "50008",
        "50009",
        "40101",
        "40402",
        "circuit",
        "http_404",
    ],
)
def test_what_another_call_would_not_change_is_not_repeated(reason: str) -> None:
    assert pause(reason, None, 20.0, 0.5) is None
    assert pause(reason, 1.0, 20.0, 0.5) is None


def test_nothing_that_says_nothing_about_the_provider_is_repeated_but_what_it_asked_for() -> None:
    ignored = [reason for reason, outcome in CATALOGUE.items() if outcome.weight is not Weight.FAILURE]
    assert [reason for reason in ignored if pause(reason, None, 20.0, 0.0) is not None] == []
