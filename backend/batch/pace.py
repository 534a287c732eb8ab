"""When what is planned for a window leaves: so many a minute, a second, a tenth of a second. RULE: arithmetic on integers, without drift.

In: how much is to be sent between two slots, and how much has been. Out: the share of each slot. Part k of n of S is
floor((k+1)S/n) - floor(kS/n): neighbours differ by one at most, every prefix is within one of the straight line, and the sum is S.

A slot that was missed is not made up for at once: what is left is laid anew over the slots that are left, evenly, never as a burst.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from backend.batch.calendar import Window

MINUTE = timedelta(minutes=1)
SECONDS_OF_MINUTE = 60
CHUNKS_OF_SECOND = 10
CHUNKS_OF_MINUTE = SECONDS_OF_MINUTE * CHUNKS_OF_SECOND
_ROUNDED = 1e-6  # links that a sum of parts may be short of a whole one
RESERVE = 5  # minutes before a day's finish line that a course leaves free


class Course(Struct, frozen=True):
    """So much over slots `first` to `behind` (outside), laid evenly; slots from there to `last` (outside) are a reserve."""

    total: int
    first: int
    behind: int
    last: int | None = None  # None: there is no reserve
    spread: int = 1  # over how many slots at least that which was missed is laid, as long as there are as many

    def __post_init__(self) -> None:
        if self.total < 0 or self.behind < self.first or (self.total and self.behind == self.first):
            raise ValueError("a course needs slots for what it carries")

    def until(self, slot: int) -> int:
        """How much has left when `slot` begins."""
        if slot >= self.behind:
            return self.total
        return max(slot - self.first, 0) * self.total // max(self.behind - self.first, 1)

    def at(self, slot: int) -> int:
        """What leaves in a slot."""
        return self.until(slot + 1) - self.until(slot)

    def from_here(self, slot: int, left: int) -> Course:
        """The course from `slot` on, if so much is left then: the same one if that is what it says, else what is left laid evenly.

        Near the end it takes of the reserve, so that what was missed is still spread. Behind even that, all that is left stands in `slot`:
        whether the window is still open is the caller's question.
        """
        if left == self.total - self.until(slot):
            return self
        last = self.behind if self.last is None else self.last
        behind = min(max(self.behind, slot + self.spread), last)
        return Course(left, slot, max(behind, slot + 1 if left else slot), last, self.spread)

    def share(self, slot: int, left: int) -> int:
        """What leaves in a slot if so much is left then, for whoever lays what is left anew at every slot and keeps nothing.

        The way back to this course is as short as an even one of what is left may be rounded. Always rounded down, a course that has fewer
        links than slots would wait for its end; rounded up, it would run ahead.
        """
        due = self.total - self.until(slot)
        ends = self.behind if left <= due and slot < self.behind else self.from_here(slot, left).behind
        slots = max(ends - slot, 1)
        back = left - (self.total - self.until(slot + 1))
        return min(max(back, left // slots), -(-left // slots))

    def filled(self, slot: int = 0) -> Iterator[tuple[int, int]]:
        """(slot, share) of every slot from `slot` on in which anything leaves; the empty ones cost nothing."""
        slots = self.behind - self.first
        sent = self.until(slot)
        while sent < self.total:
            here = self.first + -(-(sent + 1) * slots // self.total) - 1  # the first slot by whose end one more has left
            share = self.until(here + 1) - sent
            yield here, share
            sent += share


def minutes_of(windows: Sequence[Window]) -> list[datetime]:
    """Where the whole minutes of a day's windows begin. The windows are cut by their finish lines already."""
    return [window.begins + ahead * MINUTE for window in windows for ahead in range(window.seconds // SECONDS_OF_MINUTE)]


def course_of(total: int, minutes: int, *, reserve: int = RESERVE) -> Course:
    """A day's course over so many minutes, the reserve kept free; windows shorter than two reserves are shared with it evenly.

    Raises ValueError if there is something to send and no minute.
    """
    kept = min(reserve, minutes // 2)
    return Course(total, 0, minutes - kept, minutes, max(reserve, 1))


class Limit(Struct, frozen=True, kw_only=True):
    """What the batch may ask of a provider in one second."""

    calls_per_second: float  # that it takes of the whole fleet
    user_calls: float = 0.0  # a second, that users make now: they go first
    calls_per_link: int = 1000  # in thousandths
    catch_up: float = 0.2  # by how much a tenth of a second may be above its even share after others were missed

    @property
    def links_per_second(self) -> float:
        """What is left for the batch, 0 or more."""
        return max(self.calls_per_second - self.user_calls, 0.0) * 1000 / self.calls_per_link

    @property
    def links_per_minute(self) -> float:
        """The same for a minute: it may be less than one."""
        return self.links_per_second * SECONDS_OF_MINUTE

    @property
    def per_minute(self) -> int:
        """The most links of any minute."""
        return math.ceil(self.links_per_minute - _ROUNDED)

    def of_minute(self, number: int) -> int:
        """The most links of the minute with this number: what is left of a link goes to a later one, so nothing is lost by rounding."""
        return int((number + 1) * self.links_per_minute + _ROUNDED) - int(number * self.links_per_minute + _ROUNDED)

    def per_100ms(self, size: int) -> int:
        """The most links of a tenth of a second in a minute of `size`: its even course and `catch_up` more, within what the provider takes.

        It is a cap and no rate. The even course of 2,778 is 4 or 5 a tenth: always 4 would leave 378, always 5 would idle at the end.
        """
        wanted = math.ceil(size * (1 + self.catch_up) / CHUNKS_OF_MINUTE)
        return min(wanted, math.ceil(self.links_per_second / CHUNKS_OF_SECOND))


def size_of(course: Course, minute: int, left: int, limit: Limit) -> int:
    """How many links this minute's command takes if so much is left: what the course says, unless the provider takes less."""
    return min(course.share(minute, left), limit.of_minute(minute))


class Grid(Struct, frozen=True):
    """One command's minute in tenths of a second, as its sender keeps it.

    `course` is over chunks; what leaves in one is at most `per_100ms`. Chunks that are missed, or that were not given all of their share,
    change the course of the rest and nothing else: chunk k begins at the minute's begin + k x 100 ms, whatever happened before. What is
    made up for stays on the line of the provider's own limit (`limit`), so that no second of it is above what the provider takes.
    """

    course: Course
    per_100ms: int
    left: int
    limit: Course

    @classmethod
    def of(cls, size: int, per_100ms: int, *, per_minute: int | None = None) -> Grid:
        """A whole minute. `per_minute`: the most that the provider takes in one, at least `size`; None: nothing is known."""
        most = per_100ms * CHUNKS_OF_MINUTE if per_minute is None else per_minute
        return cls(Course(size, 0, CHUNKS_OF_MINUTE), per_100ms, size, Course(most, 0, CHUNKS_OF_MINUTE))

    def chunk(self, at: int) -> tuple[Grid, int]:
        """What leaves in chunk `at`, and the grid behind it; chunks before it that were not asked for were missed."""
        course = self.course.from_here(at, self.left)
        most = min(self.per_100ms, self.left, self.limit.at(at) if course.first else self.left)  # an undisturbed minute keeps its limit
        share = min(course.at(at), most)
        return self.after(share, course), share

    def after(self, share: int, course: Course | None = None) -> Grid:
        """With so much less left."""
        return Grid(course or self.course, self.per_100ms, self.left - share, self.limit)
