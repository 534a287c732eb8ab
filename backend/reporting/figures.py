"""What sums say: averages, deviations, days in Korea. RULE: pure.

All sums are whole numbers, so whatever is added up first, the figures are the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import TypeVar

from msgspec import Struct

from backend.clock import KST
from backend.providers.traffic import BOUNDS_MS

WEEK = timedelta(days=7)
ENOUGH = 40  # digits beyond the whole number of a root: a float has 17

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class Sums(Struct, frozen=True, kw_only=True):
    """What became of calls."""

    calls: int = 0  # = successes + failures + cancelled
    successes: int = 0
    cancelled: int = 0  # ended by us; they are in no figure below
    slow: int = 0  # of those that came to an end, with the answer that the circuit counts as slow
    ms: int = 0  # sum of the times
    ms_squared: int = 0  # sum of their squares
    histogram: tuple[int, ...] = (0,) * (len(BOUNDS_MS) + 1)  # by `traffic.BOUNDS_MS`; the last: beyond

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            calls=self.calls + other.calls,
            successes=self.successes + other.successes,
            cancelled=self.cancelled + other.cancelled,
            slow=self.slow + other.slow,
            ms=self.ms + other.ms,
            ms_squared=self.ms_squared + other.ms_squared,
            histogram=tuple(one + more for one, more in zip(self.histogram, other.histogram, strict=True)),
        )

    @property
    def ended(self) -> int:
        """Calls that came to an end by themselves."""
        return self.calls - self.cancelled

    @property
    def failures(self) -> int:
        """Calls that ended without an answer."""
        return self.ended - self.successes

    @property
    def mean_ms(self) -> float | None:
        """None: no call ended."""
        return self.ms / self.ended if self.ended else None

    @property
    def deviation_ms(self) -> float | None:
        """Standard deviation of the times, of the population. None: no call ended."""
        return deviation(self.ended, self.ms, self.ms_squared) if self.ended else None


NOTHING = Sums()


def deviation(count: int, total: int, squares: int) -> float:
    """Standard deviation of a population of `count` > 0 whole numbers, by their sum and the sum of their squares.

    In whole numbers up to the root, and the root with as many digits as make its last bit right: floats would lose what little differs when
    the mean is large.
    """
    variance = count * squares - total * total  # times the square of the count
    with localcontext() as context:
        context.prec = len(str(variance)) // 2 + ENOUGH
        return float(Decimal(variance).sqrt() / count)


def grouped(each: Iterable[T], key: Callable[[T], Key], sums: Callable[[T], Sums]) -> dict[Key, Sums]:
    """Added up by key: by industry, for one."""
    found: dict[Key, Sums] = {}
    for one in each:
        found[key(one)] = found.get(key(one), NOTHING) + sums(one)
    return found


def day_of(moment: datetime) -> date:
    """The day in Korea."""
    return moment.astimezone(KST).date()


def borders(day: date) -> tuple[datetime, datetime]:
    """When a day in Korea begins, and when the next one does; in UTC."""
    begins = datetime.combine(day, time.min, KST).astimezone(UTC)
    return begins, begins + timedelta(days=1)


def whole_hours(moment: datetime) -> datetime:
    """The beginning of the hour: sums of hours before it are whole. Hours begin at once in UTC and in Korea."""
    return moment.replace(minute=0, second=0, microsecond=0)
