"""Options that contradict themselves are refused; waits grow and stay within their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.coordinator.options import Options, WindowKind
from backend.services import circuit_options
from backend.settings import Settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"minimum_calls": 0},
        {"failure_rate": 0.0},
        {"failure_rate": 100.1},
        {"slow_rate": -1.0},
        {"quorum": 0},
        {"permitted_calls": 0},
        {"probe_lease_ms": 0},
        {"wait_growth": 0.5},
        {"jitter": 1.5},
        {"in_a_row": -1},
        {"wait_ms": 30_000},  # longer than the longest
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Options(**wrong)  # type: ignore[arg-type]


def test_a_count_window_can_always_be_full_enough() -> None:
    assert Options(size=10, minimum_calls=100).enough_calls == 10
    assert Options(window=WindowKind.TIME, size=10, minimum_calls=100).enough_calls == 100


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_waits_lie_between_what_is_drawn_away_and_the_longest(opened: int, draw: float) -> None:
    options = Options()
    wait = options.wait(opened, draw)
    assert options.wait_ms * (1 - options.jitter) <= wait <= options.longest_wait_ms
    assert options.wait(opened, 0) >= options.wait(max(opened - 1, 0), 0)


def test_the_wait_doubles_from_five_to_twenty_seconds() -> None:
    assert [Options().wait(opened, 0) for opened in (1, 2, 3, 4)] == [5_000, 10_000, 20_000, 20_000]


def test_every_option_is_a_setting_with_the_same_default() -> None:
    assert circuit_options(Settings(_env_file=None)) == Options()  # type: ignore[call-arg]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="LONGEST_WAIT_MS"):
        circuit_options(Settings(_env_file=None, circuit_wait_ms=60_000))  # type: ignore[call-arg]


def test_a_setting_reaches_its_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_CIRCUIT_WINDOW", "time")
    monkeypatch.setenv("MOA_CIRCUIT_FAILURE_RATE", "12.5")
    assert circuit_options(Settings(_env_file=None)) == Options(window=WindowKind.TIME, failure_rate=12.5)  # type: ignore[call-arg]
