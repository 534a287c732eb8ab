"""Which minute's command is to be made now, how large it is, and what will not be done in time. RULE: pure.

In: what is to be done over which minutes, what was taken of it, the moment. Out: a minute, a size, a range; and alarms. What was taken is
counted in rows, so a new leader goes on with the course of the old one: undisturbed it is the same, else what is left is laid anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from msgspec import Struct

from backend.batch.calendar import SATURDAY, Window, in_korea
from backend.batch.commands import Position
from backend.batch.pace import CHUNKS_OF_SECOND, MINUTE, SECONDS_OF_MINUTE, Course, Limit, course_of, minutes_of, size_of

LEAD = timedelta(seconds=5)  # so long before its minute a command is made: its worker is to be there when it begins
BEHIND = timedelta(minutes=5)  # from then on a pace counts as it is; until then it may catch up
ENOUGH_COMMANDS = 5  # minutes from which a pace is known
APART = timedelta(minutes=10)  # two coordinators' clocks, at most
LATE = timedelta(seconds=1)  # after its minute began: from then on a command is smaller


class Task(Struct, frozen=True, kw_only=True):
    """So many links over these minutes."""

    links: int
    minutes: tuple[datetime, ...]  # none: there is no time for it
    since: datetime  # commands from then on take of it
    is_rehearsal: bool = False

    @property
    def course(self) -> Course:
        """From its first minute on. Without a minute it carries nothing."""
        return course_of(self.links if self.minutes else 0, len(self.minutes))

    @property
    def ends(self) -> datetime | None:
        """When the last link leaves, if nothing comes between. None: nothing leaves."""
        last = self.course.behind
        return self.minutes[last - 1] + MINUTE if self.links and last else None

    def left(self, taken: int) -> int:
        return max(self.links - taken, 0)


class Range(Struct, frozen=True):
    """Links that are due, behind `start` and up to `limit`."""

    start: Position
    limit: Position
    size: int


def task_of_day(links: int, minutes: Sequence[datetime], planned_at: datetime) -> Task:
    """What is left of a day by its plan. `minutes`: of the whole day, so that they are the same whoever looks, and when."""
    return Task(links=links, minutes=tuple(minutes[bisect_left(minutes, planned_at) :]), since=planned_at)


def task_of_rehearsal(links: int, window: Window, counted_at: datetime) -> Task:
    """Everything that is due, within a window that an operator opened. A minute that has begun is used, too."""
    minutes = tuple(minute for minute in minutes_of([window]) if minute + MINUTE > counted_at)
    return Task(links=links, minutes=minutes, since=window.begins, is_rehearsal=True)


def minute_at(minutes: Sequence[datetime], now: datetime) -> datetime | None:
    """The minute that a command is to be there for: the one that begins within `LEAD`, else the one that runs. None: neither is one."""
    begun = bisect_right(minutes, now + LEAD)
    return minutes[begun - 1] if begun and now < minutes[begun - 1] + MINUTE else None


def known_until(now: datetime) -> datetime:
    """Commands of later minutes were made by a clock that was wrong: nobody waits for them."""
    return now + APART


def is_free(minute: datetime, newest: datetime | None) -> bool:
    """Whether a provider's command of this minute would not run beside another, of a rehearsal or of an older plan. `newest`: its last."""
    return newest is None or newest + MINUTE <= minute


def size_at(task: Task, minute: datetime, *, taken: int, limit: Limit, now: datetime) -> int:
    """Links of a minute: what the course says, within what the provider takes, and within what still fits if it has begun."""
    slot = task.minutes.index(minute)
    size = size_of(task.course, slot, task.left(taken), limit)
    if now <= minute + LATE:
        return size
    left = max((minute + MINUTE - now) / timedelta(seconds=1), 0.0)
    return min(size, int(left * CHUNKS_OF_SECOND) * limit.per_100ms(size))


def chosen(ahead: Range | None, anew: Range | None) -> Range | None:
    """The pass goes on with what lies behind its last command; a new one begins where that is less than is wanted, and it has more.

    `anew`: from the beginning, asked for only then. None: nothing is due there.
    """
    if ahead is None or anew is None:
        return ahead or anew
    return ahead if ahead.size >= anew.size else anew


def too_late(task: Task, *, taken: int, per_minute: float, now: datetime) -> int:
    """Links that cannot go in the minutes that are left, at so many a minute."""
    minutes = sum(minute > now for minute in task.minutes)
    return max(task.left(taken) - int(minutes * per_minute), 0)


def pace_to_expect(task: Task, *, taken: int, limit: float, sent: int, commands: int, is_late: bool, now: datetime) -> float:
    """Links a minute: what the provider takes (`limit`), and of one that is behind no more than its last commands came to.

    `commands`: those of the last minutes that have ended, and `sent` by them; minutes without one say nothing of a pace. `is_late`: at
    the last look it was, and is until its pace is enough: each new command is counted whole, so that it seems to catch up.
    """
    if commands < ENOUGH_COMMANDS or not (is_late or lag(task, taken=taken, now=now) >= BEHIND.total_seconds()):
        return limit
    return min(limit, sent / commands)


def is_last_day(on: date) -> bool:
    """Whether what is not done on this day is not done in its week."""
    return on.weekday() == SATURDAY


def must_be_planned(planned_at: datetime | None, *, is_stale: bool, now: datetime) -> bool:
    """Whether a provider's plan is missing, of another day, or to be made again. `planned_at` None: this week has none."""
    return planned_at is None or is_stale or in_korea(planned_at) != in_korea(now)


def counts_from(now: datetime, midnight: datetime, newest: datetime | None) -> datetime:
    """From when on a plan that is made now has minutes: from `midnight` on, its day's first moment, if it is made in the day's first one.

    Unless that has its command already, by an older plan. `newest`: the minute of the provider's last command.
    """
    is_first = now < midnight + MINUTE and (newest is None or newest < midnight)
    return midnight if is_first else now


def is_outgrown(links: int, *, taken: int, due: int) -> bool:
    """Whether more links are due than a plan of so many leaves: new ones came. `due`: counted, or a number that it is not below."""
    return due > max(links - taken, 0)


def lag(task: Task, *, taken: int, now: datetime) -> float:
    """Seconds by which a day is behind its course; 0 if it is not, and outside its minutes."""
    slot = next((number for number, minute in enumerate(task.minutes) if minute <= now < minute + MINUTE), None)
    course = task.course
    if slot is None or not course.total:
        return 0.0
    seconds = slot * SECONDS_OF_MINUTE + int((now - task.minutes[slot]) / timedelta(seconds=1))
    in_seconds = Course(course.total, 0, course.behind * SECONDS_OF_MINUTE)
    pace = in_seconds.total / in_seconds.behind
    return max(in_seconds.until(seconds) - taken, 0) / pace
