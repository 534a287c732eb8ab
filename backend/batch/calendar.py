"""What kind of day a day is, which week it lies in, and when a provider takes scheduled calls on it. RULE: pure.

In: the days on which Korea and its exchange rest (`closures.py` knows them), and what operators say instead. Out: typed days, weeks from
Sunday to Saturday in KST (standard, section 7), and windows as moments. Korea has no daylight saving time: every day has 1,440 minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from msgspec import Struct

from backend.clock import KST

PAYDAY = 25  # of the month; paid earlier if banks rest on it
DAYS_OF_A_WEEK = 7
SATURDAY, SUNDAY = 5, 6  # as `date.weekday` counts

_A_DAY = timedelta(days=1)


class Mark(StrEnum):
    """What makes a day unlike others of its weekday. A day can have several."""

    PAYDAY = "payday"
    MONTH_START = "month_start"  # the first day of the month
    MONTH_END = "month_end"  # the last one
    HOLIDAY = "holiday"  # banks rest
    TRADING = "trading"  # the exchange is open


class Said(StrEnum):
    """What an operator may say about a day, whatever the lists know."""

    HOLIDAY = "holiday"  # banks and the exchange rest
    NO_TRADING = "no_trading"  # only the exchange rests
    WORKING = "working"  # neither does


class Closures(Struct, frozen=True):
    """On which days who rests, weekends aside."""

    holidays: frozenset[date] = frozenset()
    exchange: frozenset[date] = frozenset()  # beyond `holidays`, or among them

    def but(self, overrides: Iterable[Override]) -> Closures:
        """With what operators say instead; the last word about a day stands."""
        said = {override.on: override.said for override in overrides}
        holidays = (self.holidays - said.keys()) | {on for on, what in said.items() if what is Said.HOLIDAY}
        exchange = (self.exchange - said.keys()) | {on for on, what in said.items() if what is Said.NO_TRADING}
        return Closures(holidays, exchange)


class Override(Struct, frozen=True):
    """An operator's word about one day."""

    on: date
    said: Said


class Day(Struct, frozen=True):
    """One day in Korea."""

    on: date
    marks: frozenset[Mark] = frozenset()

    @property
    def weekday(self) -> int:
        """0: Monday, 6: Sunday."""
        return self.on.weekday()


class Window(Struct, frozen=True):
    """A time in which a provider takes scheduled calls; the end is outside."""

    begins: datetime  # in KST
    ends: datetime

    @property
    def seconds(self) -> int:
        return int((self.ends - self.begins).total_seconds())

    def until(self, finish: timedelta) -> Window | None:
        """The part after which an answer can still come inside: calls end `finish` before the window does. None: nothing is left."""
        ends = self.ends - finish
        return Window(self.begins, ends) if ends > self.begins else None

    def after(self, moment: datetime) -> Window | None:
        """What is left of it. None: nothing."""
        return Window(max(self.begins, moment.astimezone(KST)), self.ends) if moment < self.ends else None


def overrides(lines: Iterable[str]) -> tuple[Override, ...]:
    """Reads `2026-06-03=holiday`, one each. Raises ValueError, whose message names the line."""
    found = []
    for line in lines:
        on, _, said = line.partition("=")
        try:
            found.append(Override(date.fromisoformat(on.strip()), Said(said.strip())))
        except ValueError:
            raise ValueError(f"`{line}`: YYYY-MM-DD=holiday, no_trading or working is needed") from None
    return tuple(found)


def works(on: date, closures: Closures) -> bool:
    """Whether banks work."""
    return on.weekday() not in {SATURDAY, SUNDAY} and on not in closures.holidays


def payday(year: int, month: int, closures: Closures) -> date:
    """The 25th, or the last working day before it."""
    day = date(year, month, PAYDAY)
    while not works(day, closures):
        day -= _A_DAY
    return day


def day_of(on: date, closures: Closures) -> Day:
    """What kind of day it is."""
    working = works(on, closures)
    found = {
        Mark.PAYDAY: on == payday(on.year, on.month, closures),
        Mark.MONTH_START: on.day == 1,
        Mark.MONTH_END: (on + _A_DAY).day == 1,
        Mark.HOLIDAY: on in closures.holidays,
        Mark.TRADING: working and on not in closures.exchange,
    }
    return Day(on, frozenset(mark for mark, holds in found.items() if holds))


def sunday_of(on: date) -> date:
    """With which day its week begins; a week is named by it."""
    return on - timedelta(days=on.isoweekday() % DAYS_OF_A_WEEK)


def in_korea(moment: datetime) -> date:
    """Which day a moment belongs to."""
    return moment.astimezone(KST).date()


def days_from(on: date, count: int) -> Iterator[date]:
    """So many days, beginning with `on`."""
    return (on + timedelta(days=ahead) for ahead in range(count))


def rest_of_week(on: date) -> tuple[date, ...]:
    """From `on` to the Saturday of its week."""
    return tuple(days_from(on, DAYS_OF_A_WEEK - on.isoweekday() % DAYS_OF_A_WEEK))


def windows_on(on: date, np_times: Sequence[str]) -> tuple[Window, ...]:
    """The windows of one day in their order, from `hhmm:hhmm` as the directory has checked them; none at all means the whole day.

    Windows that touch are one: `0000:0100` and `0100:0700` make `0000:0700`.
    """
    midnight = datetime.combine(on, time.min, KST)
    found: list[Window] = []
    for np_time in sorted(np_times) or ["0000:2400"]:
        begins, ends = (midnight + _since_midnight(hhmm) for hhmm in np_time.split(":"))
        if found and found[-1].ends == begins:
            begins = found.pop().begins
        found.append(Window(begins, ends))
    return tuple(found)


def left_on(on: date, np_times: Sequence[str], *, now: datetime, finish: timedelta) -> tuple[Window, ...]:
    """Where calls may still begin on that day: what is left at `now` of its windows, each cut by its finish line."""
    cut = (window.until(finish) for window in windows_on(on, np_times))
    left = (window.after(now) for window in cut if window is not None)
    return tuple(window for window in left if window is not None)


def _since_midnight(hhmm: str) -> timedelta:
    return timedelta(hours=int(hhmm[:2]), minutes=int(hhmm[2:]))
