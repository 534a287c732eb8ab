"""Figures come from whole sums, and days are those of Korea."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.clock import KST
from backend.providers.traffic import BOUNDS_MS, day_of
from backend.reporting.figures import NOTHING, Sums, borders, deviation, grouped, whole_hours
from backend.reporting.figures import day_of as day_in_korea
from backend.storage.traffic_sums import STEPS
from tests.reporting.given import EPOCH


@given(st.lists(st.integers(0, 60_000), min_size=1, max_size=50), st.integers(1, 10**7))
def test_mean_and_deviation_are_those_of_all_the_single_times_however_many_they_are(times: list[int], again: int) -> None:
    count, total, squares = len(times) * again, sum(times) * again, sum(took * took for took in times) * again
    sums = Sums(calls=count + 3, cancelled=3, successes=count, ms=total, ms_squared=squares)
    assert sums.mean_ms == pytest.approx(fmean(times))
    assert sums.deviation_ms == pytest.approx(pstdev(times), rel=1e-9)


def test_equal_times_do_not_deviate_even_where_floats_would_say_so() -> None:
    count, took = 10**9 + 7, 59_999
    assert deviation(count, count * took, count * took * took) == 0.0


def test_without_a_call_that_ended_there_is_no_mean() -> None:
    cancelled = Sums(calls=2, cancelled=2)
    assert (cancelled.mean_ms, cancelled.deviation_ms, cancelled.failures, cancelled.ended) == (None, None, 0, 0)
    assert NOTHING.mean_ms is None


def test_sums_add_up_field_by_field_and_in_groups() -> None:
    one = Sums(calls=4, successes=2, cancelled=1, slow=1, ms=100, ms_squared=5_000, histogram=(1,) * STEPS)
    two = Sums(calls=1, successes=1, ms=7, ms_squared=49, histogram=(0, 1) + (0,) * (STEPS - 2))
    both = Sums(calls=5, successes=3, cancelled=1, slow=1, ms=107, ms_squared=5_049, histogram=(1, 2) + (1,) * (STEPS - 2))
    assert one + two == both
    assert both.failures == 1
    banks = grouped([("bank", one), ("card", one), ("bank", two)], lambda each: each[0], lambda each: each[1])
    assert banks == {"bank": both, "card": one}


def test_the_histogram_has_as_many_steps_everywhere() -> None:
    assert len(BOUNDS_MS) + 1 == STEPS == len(NOTHING.histogram)


def test_a_day_begins_at_midnight_in_korea() -> None:
    begins, ends = borders(date(2026, 11, 22))
    assert (begins, ends) == (datetime(2026, 11, 21, 15, tzinfo=UTC), datetime(2026, 11, 22, 15, tzinfo=UTC))
    assert [day_in_korea(moment) for moment in (begins, ends - timedelta(milliseconds=1), ends)] == [
        date(2026, 11, 22),
        date(2026, 11, 22),
        date(2026, 11, 23),
    ]


@given(st.integers(1_600_000_000_000, 2_200_000_000_000))
def test_nodes_and_readers_agree_on_days_and_hours(moment_ms: int) -> None:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    day = day_in_korea(moment)
    assert (day - EPOCH).days == day_of(moment_ms)
    begins, ends = borders(day)
    assert begins <= moment < ends
    assert whole_hours(moment).astimezone(KST).minute == 0
    assert timedelta(0) <= moment - whole_hours(moment) < timedelta(hours=1)
