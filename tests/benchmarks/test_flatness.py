"""The two ways to a flattest week agree, and every policy refreshes every link."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.batch.filling import fill
from benchmarks.flatness import CALM, users
from benchmarks.flows import Group, lowest_peak
from benchmarks.policies import at_once, by_age, by_week, equal, forecasting, volume
from benchmarks.weeks import WEEKS, lived

DAYS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=7)


@given(DAYS, st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 25)), max_size=3))
@settings(max_examples=200)
def test_flows_and_filling_find_the_same_peak(days: list[tuple[int, int]], spans: list[tuple[int, int, int]]) -> None:
    base, caps = [lies for lies, _ in days], [cap for _, cap in days]
    last = len(days) - 1
    firsts = sorted(min(first, last) for first, _, _ in spans)
    lasts = sorted(max(min(one, last), first) for (_, one, _), first in zip(sorted(spans), firsts, strict=True))
    groups = [Group(first, end, calls) for first, end, (_, _, calls) in zip(firsts, lasts, spans, strict=True) if first <= end]
    due = [sum(group.calls for group in groups if group.last <= day) for day in range(len(days))]
    ready = [sum(group.calls for group in groups if group.first <= day) for day in range(len(days))]
    filled, lowest = fill(base, caps, due, ready), lowest_peak(base, caps, groups)
    assert (lowest is None) == (filled.impossible is not None)
    if lowest is not None:
        assert filled.peak == lowest


def test_the_same_seed_is_the_same_half_year() -> None:
    past = users(CALM, 5)
    assert lived([one.day for one in past], CALM, 5) == past
    assert lived([one.day for one in past], CALM, 6) != past


def test_every_way_refreshes_every_link_each_week_or_as_it_comes_of_age() -> None:
    past = users(CALM, 5)
    week = volume(past)
    for amounts in (at_once(past), equal(past), by_week(past, forecasting)):
        assert [sum(amounts[first : first + 7]) for first in range(0, 7 * WEEKS, 7)] == [week] * WEEKS
    aged = by_age(past, forecasting)
    assert all(sum(aged[first : first + 7]) >= week for first in range(7 * (WEEKS - 1)))
