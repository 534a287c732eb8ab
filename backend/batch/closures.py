"""The days on which Korea and its exchange rest, as the package `holidays` knows them.

In: years. Out: `Closures`. The package carries its own data and asks nobody; what it has not heard of yet (a day that the government
declares with a week's notice) an operator says (`calendar.Override`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from backend.batch.calendar import Closures


def closures_of(years: Iterable[int]) -> Closures:
    """All days of rest of these years."""
    each = [_of(year) for year in sorted(set(years))]
    return Closures(
        frozenset(day for one in each for day in one.holidays),
        frozenset(day for one in each for day in one.exchange),
    )


@cache
def _of(year: int) -> Closures:
    import holidays  # noqa: PLC0415  # a tenth of a second, which commands that plan nothing need not spend

    korea = frozenset(holidays.country_holidays("KR", years=year))
    exchange = frozenset(holidays.financial_holidays("XKRX", years=year))
    return Closures(korea, exchange - korea)
