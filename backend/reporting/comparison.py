"""Calls of a day beside those of the same weekday a week before: which category burns, which has dropped, and what moved it. RULE: pure.

In: sums of both days by institution and asker, whose category each institution is, users where they are known. Out: a `Compared`.

What is compared is whole hours, on both days the same ones. Sums are kept by the hour in which a call began, so a part of an hour of a
week ago cannot be told from the rest of it: the hour that runs counts on neither side, and nothing is estimated. An hour counts from
`SETTLING` after its end on: then its last calls have ended and are in the sums. Hours begin at once in UTC and in Korea. Whether
something burns is judged by the counts themselves, not by the two decimals that are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from backend.events import Industry
from backend.reporting.figures import WEEK, borders, day_of, whole_hours

SETTLING = timedelta(minutes=1)


class Mark(StrEnum):
    """What is worth a look."""

    FLAME = "flame"
    DROP = "drop"


class History(StrEnum):
    """What is known of the day a week before."""

    WHOLE = "whole"
    PARTIAL = "partial"  # the first hour that was ever recorded came after its beginning; what is compared may lack calls
    NONE = "none"


class Options(Struct, frozen=True, kw_only=True):
    """When something is worth a look."""

    flame: Decimal = Decimal("1.5")  # from so many times the calls on
    drop: Decimal = Decimal("0.5")  # below so many times
    floor: int = 100  # calls, on the side that has more of them: fewer are worth no look


class Counted(Struct, frozen=True, kw_only=True):
    """What one asker did at one institution by the same hour of a day."""

    org_code: str
    scheduled: bool  # by the weekly batch; False: for a person
    calls: int
    users: int | None = None  # None: not known


class Figure(Struct, frozen=True):
    """Calls of both days."""

    calls: int
    before: int

    def __add__(self, other: Figure) -> Figure:
        return Figure(self.calls + other.calls, self.before + other.before)

    @property
    def more(self) -> int:
        """By how many calls it grew; negative: it shrank."""
        return self.calls - self.before

    @property
    def ratio(self) -> Decimal | None:
        """To two decimals, halves upward. None: there was nothing before."""
        return ratio_of(self.calls, self.before)

    def mark(self, options: Options | None) -> Mark | None:
        """Whether it is worth a look; `options` None: nothing is. Nothing before is no ratio, and burns when the floor is reached."""
        if options is None or max(self.calls, self.before) < max(options.floor, 1):
            return None
        if self.calls >= options.flame * self.before:
            return Mark.FLAME
        return Mark.DROP if self.calls < options.drop * self.before else None


class Cause(Struct, frozen=True, kw_only=True):
    """What moved a category most: one asker at one institution."""

    org_code: str
    scheduled: bool
    figure: Figure
    share: Decimal | None  # of the category's change, percent; None: others moved against it, so it is more than all
    users: Figure | None  # None: not known on one of the days

    @property
    def by_users(self) -> bool | None:
        """True: more users (or fewer); False: more calls per user; None: not known."""
        if self.users is None or not all((*self._counts(), *self._users())):
            return None
        (calls, calls_before), (users, users_before) = self._counts(), self._users()
        # How many times the users, against how many times the calls per user, without a division; turned over for a drop.
        by_users, by_each = users * users * calls_before, users_before * users_before * calls
        return by_users >= by_each if self.figure.more >= 0 else by_users <= by_each

    @property
    def per_user(self) -> Decimal | None:
        """How many times the calls per user. None: not known."""
        if self.by_users is None or self.users is None:
            return None
        return ratio_of(self.figure.calls * self.users.before, self.figure.before * self.users.calls)

    def _counts(self) -> tuple[int, int]:
        return self.figure.calls, self.figure.before

    def _users(self) -> tuple[int, int]:
        return (self.users.calls, self.users.before) if self.users is not None else (0, 0)


class Category(Struct, frozen=True, kw_only=True):
    """An industry."""

    industry: Industry
    figure: Figure
    mark: Mark | None
    cause: Cause | None  # None: there is nothing to explain


class OfOne(Struct, frozen=True, kw_only=True):
    """An institution."""

    org_code: str
    industry: Industry | None  # None: the CA, or it is in the directory no more
    by_user: Figure
    scheduled: Figure
    mark: Mark | None

    @property
    def figure(self) -> Figure:
        return self.by_user + self.scheduled


class Compared(Struct, frozen=True, kw_only=True):
    """A day beside the one a week before."""

    day: date
    until: datetime  # the end of the hours that count, on `day`
    history: History
    known_since: datetime | None  # the first hour in which anything was recorded; None: nothing was
    categories: tuple[Category, ...]  # all seven, in the order of `Industry`
    providers: tuple[OfOne, ...]  # that were called on either day, by code

    @property
    def before(self) -> date:
        """The day that it is compared with."""
        return self.day - WEEK


def hours_of(day: date, now: datetime) -> datetime:
    """The end of the hours of `day` that count at `now`: its own end once that is over, its beginning before it began."""
    begins, ends = borders(day)
    return max(begins, min(ends, whole_hours(now - SETTLING)))


def morning_hours(now: datetime, at: timedelta) -> tuple[date, datetime, datetime]:
    """The last message that is due, at `at` past midnight in Korea: its day, the end of its hours, and the moment from which it may go.

    Its hours end at the set time, whenever it is written: whoever writes it late, even after midnight, writes the same.
    """
    day = day_of(now - at - SETTLING)
    begins, _ = borders(day)
    return day, whole_hours(begins + at), begins + at + SETTLING


def ratio_of(calls: int, before: int) -> Decimal | None:
    """To two decimals, halves upward, exactly. None: there was nothing before."""
    if before <= 0:
        return None
    return Decimal((200 * calls + before) // (2 * before)).scaleb(-2)


def compare(
    now: Iterable[Counted],
    before: Iterable[Counted],
    industries: Mapping[str, Industry],
    *,
    day: date,
    until: datetime,
    known_since: datetime | None,
    options: Options,
) -> Compared:
    """Each of `now` and `before` has at most one row per institution and asker. Without history nothing is marked."""
    history = _history(day, known_since, until)
    judged = options if history is not History.NONE else None
    today = {(each.org_code, each.scheduled): each for each in now}
    then = {(each.org_code, each.scheduled): each for each in before}
    changes = [_change(key, today, then) for key in sorted(today.keys() | then.keys())]
    return Compared(
        day=day,
        until=until,
        history=history,
        known_since=known_since,
        categories=tuple(
            _category(industry, [each for each in changes if industries.get(each.org_code) is industry], judged) for industry in Industry
        ),
        providers=tuple(
            _of_one(org_code, industries.get(org_code), changes, judged) for org_code in sorted({each.org_code for each in changes})
        ),
    )


class _Change(Struct, frozen=True):
    org_code: str
    scheduled: bool
    figure: Figure
    users: Figure | None


def _change(key: tuple[str, bool], today: Mapping[tuple[str, bool], Counted], then: Mapping[tuple[str, bool], Counted]) -> _Change:
    one, other = (each.get(key) for each in (today, then))
    users = None
    if one is not None and other is not None and one.users is not None and other.users is not None:
        users = Figure(one.users, other.users)
    return _Change(*key, Figure(one.calls if one else 0, other.calls if other else 0), users)


def _history(day: date, known_since: datetime | None, until: datetime) -> History:
    begins, _ = borders(day - WEEK)
    if known_since is None or known_since >= max(until - WEEK, begins):
        return History.NONE
    return History.WHOLE if known_since <= begins else History.PARTIAL


def _category(industry: Industry, changes: list[_Change], options: Options | None) -> Category:
    figure = _sum(each.figure for each in changes)
    mark = figure.mark(options)
    return Category(industry=industry, figure=figure, mark=mark, cause=_cause(figure, changes) if mark is not None else None)


def _cause(whole: Figure, changes: list[_Change]) -> Cause | None:
    """The asker at an institution that moved it most in its own direction."""
    if not whole.more:
        return None  # nothing moved; a factor of 1 or less was set
    up = whole.more > 0
    most = max(changes, key=lambda each: (each.figure.more if up else -each.figure.more, each.org_code, each.scheduled))
    share = ratio_of(100 * abs(most.figure.more), abs(whole.more))
    return Cause(
        org_code=most.org_code,
        scheduled=most.scheduled,
        figure=most.figure,
        share=share if share is not None and share <= 100 else None,
        users=most.users,
    )


def _of_one(org_code: str, industry: Industry | None, changes: Iterable[_Change], options: Options | None) -> OfOne:
    own = [each for each in changes if each.org_code == org_code]
    by_user, scheduled = (_sum(each.figure for each in own if each.scheduled is asker) for asker in (False, True))
    return OfOne(org_code=org_code, industry=industry, by_user=by_user, scheduled=scheduled, mark=(by_user + scheduled).mark(options))


def _sum(figures: Iterable[Figure]) -> Figure:
    return sum(figures, Figure(0, 0))
