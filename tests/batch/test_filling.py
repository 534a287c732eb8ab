"""The allotment against every allotment that there is."""

from __future__ import annotations

from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.batch.filling import fill

Instance = tuple[list[int], list[int], list[int], list[int]]


@st.composite
def instances(draw: st.DrawFn, most_days: int = 4, most: int = 6) -> Instance:
    days = draw(st.integers(1, most_days))

    def numbers(largest: int) -> list[int]:
        return draw(st.lists(st.integers(0, largest), min_size=days, max_size=days))

    due = sorted(numbers(most))
    ready = sorted(max(pair) for pair in zip(due, sorted(numbers(most + 4)), strict=True))
    return numbers(most), numbers(most - 2), due, ready


def best(base: list[int], caps: list[int], due: list[int], ready: list[int]) -> tuple[int, list[int]] | None:
    """By trying all: the fewest calls, then the lowest highest day, then the lowest second one, ... None: it cannot be done."""
    found = None
    for amounts in product(*(range(cap + 1) for cap in caps)):
        if all(must <= done <= may for must, done, may in zip(due, accumulate(amounts), ready, strict=True)):
            judged = sum(amounts), heights(base, amounts)
            found = judged if found is None else min(found, judged)
    return found


def heights(base: list[int], amounts: tuple[int, ...]) -> list[int]:
    return sorted((lies + more for lies, more in zip(base, amounts, strict=True)), reverse=True)


@given(instances())
def test_it_is_what_trying_everything_finds(instance: Instance) -> None:
    filled, tried = fill(*instance), best(*instance)
    assert (filled.impossible is None) == (tried is not None)
    if tried is not None:
        assert (sum(filled.amounts), heights(instance[0], filled.amounts)) == tried


@given(instances(most_days=8, most=10_000))
def test_its_proof_has_no_gap_and_its_sums_keep_the_bounds(instance: Instance) -> None:
    _, caps, due, ready = instance
    filled = fill(*instance)
    assert filled.gap == 0
    assert all(0 <= amount <= cap for amount, cap in zip(filled.amounts, caps, strict=True))
    prefixes = list(accumulate(filled.amounts))
    assert all(done <= may for done, may in zip(prefixes, ready, strict=True))
    missing = [must - done for must, done in zip(due, prefixes, strict=True)]
    if filled.impossible is None:
        assert max(missing) <= 0
        assert prefixes[-1] == due[-1]
    else:
        first = filled.impossible.day
        assert max(missing[:first], default=0) <= 0
        assert (missing[first], max(missing[-1], 0)) == (filled.impossible.missing, filled.impossible.at_the_end)


@given(instances(most_days=6, most=50), st.data())
def test_more_room_never_makes_it_higher_or_less_possible(instance: Instance, data: st.DataObject) -> None:
    base, caps, due, ready = instance
    more = data.draw(st.lists(st.integers(0, 20), min_size=len(caps), max_size=len(caps)))
    tight, wide = fill(*instance), fill(base, [cap + extra for cap, extra in zip(caps, more, strict=True)], due, ready)
    if tight.impossible is None:
        assert wide.impossible is None
        assert heights(base, wide.amounts) <= heights(base, tight.amounts)
    elif wide.impossible is not None:
        assert wide.impossible.day >= tight.impossible.day
        assert wide.impossible.at_the_end <= tight.impossible.at_the_end


def test_what_fills_no_whole_step_lies_on_the_earliest_days() -> None:
    assert fill([5, 5, 5, 5], [9] * 4, [0, 0, 0, 6], [6] * 4).amounts == (2, 2, 1, 1)


def test_the_first_impossible_day_is_named_and_the_rest_is_done() -> None:
    filled = fill([0, 0, 0], [10, 10, 100], [5, 30, 60], [60, 60, 60])
    assert filled.impossible is not None
    assert (filled.impossible.day, filled.impossible.missing, filled.impossible.at_the_end) == (1, 10, 0)
    assert filled.amounts == (10, 10, 40)


def test_no_day_takes_nothing() -> None:
    assert fill([], [], [], []).amounts == ()


@pytest.mark.parametrize(
    "wrong",
    [([1], [1], [1], []), ([1], [-1], [0], [0]), ([1, 1], [1, 1], [1, 0], [1, 1]), ([1, 1], [1, 1], [0, 1], [1, 0]), ([1], [1], [1], [0])],
)
def test_numbers_that_mean_nothing_are_refused(wrong: Instance) -> None:
    with pytest.raises(ValueError, match=r"numbers? |must not"):
        fill(*wrong)


def test_days_are_many() -> None:
    base = [(7 * day) % 13 for day in range(60)]
    assert fill(base, [5] * 60, list(range(60)), [40 + 2 * day for day in range(60)]).gap == 0
