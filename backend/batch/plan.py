"""How many links of one provider are refreshed on which day for the rest of the week. RULE: pure.

In: an `Outlook`: the days that are left, what users will probably call, what fits into the windows, which links remain. Out: a `Plan`,
whose users and batch together are as flat as they can be, with the reason for every day. It is made again each night, and on demand, from
what remains then. What is planned is calls; links are counted in them by what a link's refresh costs as measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from enum import StrEnum
from itertools import accumulate

from msgspec import Struct

from backend.batch.calendar import Day, Window
from backend.batch.filling import Impossible, fill

ONE_CALL = 1000  # calls of a link are told in thousandths


class Reason(StrEnum):
    """Why a day has as much as it has."""

    LEVEL = "level"  # filled up to the same height as the others
    BUSY = "busy"  # users alone reach that height
    DONE = "done"  # users and what the batch did earlier on this day reach it
    NOTHING = "nothing"  # no link is left for any day
    FULL = "full"  # no more fits into the window
    CLOSED = "closed"  # nothing fits: no window, or none that is left
    DUE = "due"  # higher than a later day, since links must not wait for it
    WAITING = "waiting"  # lower than a later day, since other links may not go yet


class Outlook(Struct, frozen=True, kw_only=True):
    """What is known about one provider's rest of the week; one entry per day in each tuple."""

    org_code: str
    days: tuple[Day, ...]
    user_calls: tuple[int, ...]  # expected on the whole day
    room: tuple[int, ...]  # most calls that the batch may begin; see `room`
    links: int  # that remain
    calls_per_link: int  # in thousandths, as measured; at least one call
    already: int = 0  # calls that the batch made on the first day before this plan
    due: tuple[int, ...] | None = None  # links that must have gone by the end of each day; None: all, by the end of the last
    ready: tuple[int, ...] | None = None  # links that may have gone by then; None: all, at once

    def __post_init__(self) -> None:
        if not self.days or len({len(self.days), len(self.user_calls), len(self.room)}) != 1:
            raise ValueError("an outlook needs a day, and one number for each")
        if self.calls_per_link < ONE_CALL:
            raise ValueError("a link costs at least one call")


class PlannedDay(Struct, frozen=True, kw_only=True):
    """One day of a plan."""

    day: Day
    links: int
    batch_calls: int  # still to be made
    user_calls: int  # expected
    already: int  # calls that the batch made before the plan
    room: int
    reason: Reason

    @property
    def calls(self) -> int:
        """Of users and batch together."""
        return self.user_calls + self.already + self.batch_calls


class Shortfall(Struct, frozen=True):
    """What cannot be done in time; an alarm."""

    on: date  # the first day that is impossible
    missing: int  # links that must have gone by its end and have not
    at_the_end: int  # links that are left after the last day


class Plan(Struct, frozen=True, kw_only=True):
    """One provider's rest of the week."""

    org_code: str
    days: tuple[PlannedDay, ...]
    links: int
    calls_per_link: int
    gap: int  # calls by which its peak is above the lowest that is possible; 0, by construction, and shown as the proof
    shortfall: Shortfall | None  # None: everything is done in time

    @property
    def peak(self) -> int:
        return max(day.calls for day in self.days)

    @property
    def mean(self) -> float:
        return sum(day.calls for day in self.days) / len(self.days)

    @property
    def peak_to_mean(self) -> float:
        """1: flat. Without any calls, flat."""
        return self.peak / self.mean if self.mean else 1.0

    def on(self, day: date) -> PlannedDay | None:
        """None: that day is not in it."""
        return next((planned for planned in self.days if planned.day.on == day), None)


def plan(outlook: Outlook) -> Plan:
    """The flattest rest of the week; if not everything can be done, of as much as can."""
    due, ready = _bounds(outlook)
    base = [outlook.already * (ahead == 0) + calls for ahead, calls in enumerate(outlook.user_calls)]
    filled = fill(base, outlook.room, _calls(due, outlook), _calls(ready, outlook))
    links = _links(filled.amounts, outlook)
    reasons = _reasons(outlook.user_calls, base, filled.amounts, outlook.room)
    days = tuple(
        PlannedDay(
            day=day,
            links=links[ahead],
            batch_calls=filled.amounts[ahead],
            user_calls=outlook.user_calls[ahead],
            already=outlook.already * (ahead == 0),
            room=outlook.room[ahead],
            reason=reasons[ahead],
        )
        for ahead, day in enumerate(outlook.days)
    )
    shortfall = None if filled.impossible is None else _shortfall(filled.impossible, outlook, due, list(accumulate(links)))
    return Plan(
        org_code=outlook.org_code,
        days=days,
        links=outlook.links,
        calls_per_link=outlook.calls_per_link,
        gap=filled.gap,
        shortfall=shortfall,
    )


def room(windows: Iterable[Window], per_second: float, *, user_calls: float) -> int:
    """Most calls that the batch may begin in these windows beside the users' there. `per_second`: what the provider takes of the fleet."""
    return max(int(sum(window.seconds for window in windows) * per_second - user_calls), 0)


def _bounds(outlook: Outlook) -> tuple[Sequence[int], Sequence[int]]:
    last = len(outlook.days) - 1
    due = outlook.due or (0,) * last + (outlook.links,)
    ready = outlook.ready or (outlook.links,) * (last + 1)
    return due, ready


def _calls(links: Sequence[int], outlook: Outlook) -> list[int]:
    """Rounded up: so many calls are enough for so many links, and, since a link costs one call at least, not for one more."""
    return [-(-count * outlook.calls_per_link // ONE_CALL) for count in links]


def _links(amounts: Sequence[int], outlook: Outlook) -> list[int]:
    """Those whose calls are complete by the end of each day."""
    by_then = [calls * ONE_CALL // outlook.calls_per_link for calls in accumulate(amounts)]
    return [now - before for now, before in zip(by_then, [0, *by_then], strict=False)]


def _reasons(users: Sequence[int], base: Sequence[int], amounts: Sequence[int], caps: Sequence[int]) -> list[Reason]:
    """Told from heights: lower water behind a day means that what is due dams it up; higher water, that what is not ready does."""
    heights = [lies + more for lies, more in zip(base, amounts, strict=True)]
    surfaces = [height for height, more in zip(heights, amounts, strict=True) if more]
    return [
        _reason(
            users[day], base[day], amounts[day], caps[day], top=max(surfaces, default=None), later=_open(heights, amounts, caps, day + 1)
        )
        for day in range(len(base))
    ]


def _open(heights: Sequence[int], amounts: Sequence[int], caps: Sequence[int], behind: int) -> list[tuple[int, bool]]:
    """Of later days that are not full: how high they are, and whether the batch is on them."""
    return [(heights[day], amounts[day] > 0) for day in range(behind, len(heights)) if amounts[day] < caps[day]]


def _reason(users: int, base: int, amount: int, cap: int, *, top: int | None, later: Sequence[tuple[int, bool]]) -> Reason:
    height = base + amount
    if cap == 0:
        return Reason.CLOSED
    if top is None:
        return Reason.NOTHING
    if amount == cap:
        return Reason.FULL
    if amount and any(other < height - 1 for other, _ in later):
        return Reason.DUE
    if any(other > height + 1 for other, filled in later if filled):
        return Reason.WAITING
    if amount or base < top:
        return Reason.LEVEL
    return Reason.BUSY if users >= top else Reason.DONE


def _shortfall(impossible: Impossible, outlook: Outlook, due: Sequence[int], by_then: Sequence[int]) -> Shortfall:
    """In links. A day's first impossible prefix is filled as far as it goes, so what is short of it is what is missing."""
    day = impossible.day
    return Shortfall(outlook.days[day].on, due[day] - by_then[day], due[-1] - by_then[-1])
