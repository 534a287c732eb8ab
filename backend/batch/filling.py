"""The flattest allotment there is: whole numbers over days, between nested bounds. RULE: arithmetic on integers, exact.

In: for each day what lies there anyway (`base`), the most that fits (`caps`), how much must be done by its end (`due`) and how much may be
(`ready`); both count from the first day. Out: how much to do on each day, so that base + allotment is as flat as it can be.

Bounds on prefixes are a polymatroid's, so one answer is best for every symmetric convex measure at once: peak, variance, or the days in
order of height (Groenevelt 1991; Vidal, Jaillet, Maculan 2016). It is found by filling the whole range like water, looking for the prefix
that is furthest outside its bounds, putting that one on its bound, and doing the same on both sides of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct


class Impossible(Struct, frozen=True):
    """Why not everything can be done."""

    day: int  # the first by whose end something is undone, whatever is tried
    missing: int  # then
    at_the_end: int  # undone after the last day


class Filled(Struct, frozen=True):
    """An allotment, and the proof that no peak is lower."""

    amounts: tuple[int, ...]
    peak: int  # of base + allotment
    bound: int  # below which no allotment's peak lies
    impossible: Impossible | None  # None: everything is done in time

    @property
    def gap(self) -> int:
        """How far the peak is above what is proven to be needed; 0: it is the lowest."""
        return self.peak - self.bound


class _Bounds(Struct, frozen=True):
    """Prefix sums that can be reached: `most` never grows by more than a day's cap, and `least` is never above it."""

    least: list[int]
    most: list[int]


def fill(base: Sequence[int], caps: Sequence[int], due: Sequence[int], ready: Sequence[int]) -> Filled:
    """The flattest allotment; if there is none, of all that is done as early as it can be what is missing. No day: no allotment.

    `due` and `ready` must not fall, and `due` must not be above `ready`; all numbers are >= 0. Raises ValueError for others.
    """
    _check(base, caps, due, ready)
    bounds, impossible = _reachable(caps, due, ready)
    amounts = [0] * len(base)
    if base:
        _settle(base, caps, bounds, amounts)
    peak = max((lies + more for lies, more in zip(base, amounts, strict=True)), default=0)
    return Filled(tuple(amounts), peak, _lowest_peak(base, caps, bounds), impossible)


def level(base: Sequence[int], caps: Sequence[int], amount: int) -> int:
    """The lowest height up to which filling takes `amount`; at most the sum of `caps` is taken."""
    amount = min(amount, sum(caps))
    low, high = min(base), max((lies + cap for lies, cap in zip(base, caps, strict=True)))
    while low < high:
        middle = (low + high) // 2
        if _holds(base, caps, middle) >= amount:
            high = middle
        else:
            low = middle + 1
    return low


def _check(base: Sequence[int], caps: Sequence[int], due: Sequence[int], ready: Sequence[int]) -> None:
    if not len(base) == len(caps) == len(due) == len(ready):
        raise ValueError("one number per day is needed")
    if any(number < 0 for numbers in (base, caps, due, ready) for number in numbers):
        raise ValueError("numbers below 0")
    if list(due) != sorted(due) or list(ready) != sorted(ready) or any(must > may for must, may in zip(due, ready, strict=True)):
        raise ValueError("due and ready must not fall, and due must not be above ready")


def _reachable(caps: Sequence[int], due: Sequence[int], ready: Sequence[int]) -> tuple[_Bounds, Impossible | None]:
    most = list(accumulate(range(len(caps)), lambda before, day: min(ready[day], before + caps[day]), initial=0))[1:]
    undone = [must - can for must, can in zip(due, most, strict=True)]
    first = next((day for day, missing in enumerate(undone) if missing > 0), None)
    impossible = None if first is None else Impossible(first, undone[first], max(undone[-1], 0))
    return _Bounds([min(must, can) for must, can in zip(due, most, strict=True)], most), impossible


def _settle(base: Sequence[int], caps: Sequence[int], bounds: _Bounds, amounts: list[int]) -> None:
    """Fills ranges until no prefix is outside its bounds; a range is (first day, day behind it, done before it, done after it)."""
    open_ranges = [(0, len(base), 0, bounds.least[-1])]
    while open_ranges:
        first, behind, before, after = open_ranges.pop()
        amounts[first:behind] = _like_water(base[first:behind], caps[first:behind], after - before)
        split = _furthest_outside(accumulate(amounts[first:behind], initial=before), bounds, first, behind)
        if split is not None:
            day, reached = split
            open_ranges += [(first, day + 1, before, reached), (day + 1, behind, reached, after)]


def _furthest_outside(prefixes: accumulate[int], bounds: _Bounds, first: int, behind: int) -> tuple[int, int] | None:
    """The day at whose end the most is missing, or too much done, and the bound that it breaks. None: all are inside."""
    worst, found = 0, None
    next(prefixes)  # before the first day
    for day, done in zip(range(first, behind - 1), prefixes, strict=False):  # the range's own end is given
        for bound, outside in ((bounds.least[day], bounds.least[day] - done), (bounds.most[day], done - bounds.most[day])):
            if outside > worst:
                worst, found = outside, (day, bound)
    return found


def _like_water(base: Sequence[int], caps: Sequence[int], amount: int) -> list[int]:
    """Up to one height as far as it goes; what is left for a part of the next step lies on the earliest days."""
    height = level(base, caps, amount)
    amounts = [_part(lies, cap, height - 1) for lies, cap in zip(base, caps, strict=True)]
    left = amount - sum(amounts)
    for day, (lies, cap) in enumerate(zip(base, caps, strict=True)):
        if left > 0 and _part(lies, cap, height) > amounts[day]:
            amounts[day] += 1
            left -= 1
    return amounts


def _lowest_peak(base: Sequence[int], caps: Sequence[int], bounds: _Bounds) -> int:
    """No peak is below what lies there anyway, nor below the level of any days that must hold so much by themselves."""
    found = max(base, default=0)
    for first in range(len(base)):
        before = bounds.most[first - 1] if first else 0
        for last in range(first, len(base)):
            held, these = bounds.least[last] - before, slice(first, last + 1)
            if held > _holds(base[these], caps[these], found):
                found = level(base[these], caps[these], held)
    return found


def _holds(base: Sequence[int], caps: Sequence[int], height: int) -> int:
    return sum(_part(lies, cap, height) for lies, cap in zip(base, caps, strict=True))


def _part(lies: int, cap: int, height: int) -> int:
    return min(max(height - lies, 0), cap)
