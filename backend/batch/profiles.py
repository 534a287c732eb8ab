"""What is taken for true of an institution's users before anything of them is known. RULE: data.

The figures are assumptions, told as such: more on paydays and Mondays, fewer on weekends, hardly any at night. Roll-ups replace them day
by day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, time
from types import MappingProxyType

from msgspec import Struct

from backend.batch.calendar import Mark, Window
from backend.clock import KST
from backend.events import Industry


class Profile(Struct, frozen=True, kw_only=True):
    """What is taken for true of an institution that is not known yet."""

    calls_of_user: float = 5.0  # one user's calls on a day on which they come
    weekdays: tuple[float, ...] = (1.08, 1.04, 1.02, 1.02, 1.06, 0.90, 0.88)  # factors, Monday first
    marks: Mapping[Mark, float] = MappingProxyType(
        {Mark.PAYDAY: 2.0, Mark.MONTH_START: 1.15, Mark.MONTH_END: 1.10, Mark.HOLIDAY: 0.80, Mark.TRADING: 1.0}
    )
    hours: tuple[float, ...] = (
        *(0.018, 0.010, 0.006, 0.005, 0.006, 0.012, 0.025, 0.045, 0.060, 0.062, 0.060, 0.058),
        *(0.064, 0.058, 0.053, 0.050, 0.050, 0.054, 0.058, 0.058, 0.056, 0.053, 0.046, 0.033),
    )  # of a day's calls, by the hour in Korea; their sum is 1

    def within(self, day_calls: int, windows: Iterable[Window]) -> float:
        """The part of a day's calls that falls into windows of that day."""
        return day_calls * sum(self._share(window) for window in windows)

    def _share(self, window: Window) -> float:
        midnight = datetime.combine(window.begins.date(), time.min, KST)
        begins, ends = ((moment - midnight).total_seconds() / 3600 for moment in (window.begins, window.ends))
        return sum(share * max(min(ends, hour + 1) - max(begins, hour), 0.0) for hour, share in enumerate(self.hours))


def profile_of(industry: Industry) -> Profile:
    """An industry's own, where it has one."""
    return _BY_INDUSTRY.get(industry, Profile())


_BY_INDUSTRY = {
    Industry.INVEST: Profile(  # looked at while the exchange is open
        weekdays=(1.02, 1.00, 1.00, 1.00, 1.00, 0.72, 0.70),
        marks=MappingProxyType({Mark.PAYDAY: 1.4, Mark.MONTH_START: 1.08, Mark.MONTH_END: 1.05, Mark.HOLIDAY: 0.95, Mark.TRADING: 1.35}),
    ),
    Industry.INSU: Profile(marks=MappingProxyType({Mark.PAYDAY: 1.4, Mark.MONTH_START: 1.05, Mark.MONTH_END: 1.05, Mark.HOLIDAY: 0.80})),
    Industry.TELECOM: Profile(marks=MappingProxyType({Mark.PAYDAY: 1.3, Mark.MONTH_START: 1.10, Mark.MONTH_END: 1.05, Mark.HOLIDAY: 0.85})),
}
