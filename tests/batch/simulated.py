"""A week of the batch in simulated time: the rules decide everything, nothing sleeps, chunks in which nothing leaves are not visited.

In: a `Place` and its `Trouble`. Out: `Seen`, kept by the provider's side of the play, from its own reading of its windows. Time is
counted in tenths of a second from the week's Sunday at midnight. What a real shell would keep in rows are the fields of `_Week`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta

from backend.batch.calendar import Day, day_of, left_on, rest_of_week
from backend.batch.easing import Ease, Options, earned, eased
from backend.batch.easing import Seen as SecondSeen
from backend.batch.pace import (
    CHUNKS_OF_MINUTE,
    CHUNKS_OF_SECOND,
    SECONDS_OF_MINUTE,
    Course,
    Grid,
    Limit,
    course_of,
    minutes_of,
    size_of,
)
from backend.batch.plan import Outlook, Plan, plan, room
from backend.batch.profiles import Profile
from backend.clock import KST
from tests.batch.given import CLOSURES, SUNDAY

HOUR, DAY = 36_000, 864_000  # tenths of a second
ANSWER = 5  # tenths that an answer takes
NOTICED = 20  # tenths that calls fail before the circuit is open
PROBED = 50  # tenths that it stays open after the provider is well
AWAY = 200  # tenths until another coordinator and worker have taken over
FINISH = timedelta(seconds=30)  # no call begins later than that before a window's end
OPTIONS, PROFILE = Options(), Profile()


@dataclass(frozen=True, kw_only=True)
class Place:
    """One provider."""

    links: int
    np_times: tuple[str, ...] = ("0100:0700",)
    calls_per_second: float = 1_000.0
    calls_per_link: int = 1_000
    user_calls: tuple[int, ...] = (90_000, 125_000, 115_000, 260_000, 130_000, 120_000, 85_000)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What goes wrong; spans are [begins, ends)."""

    outage: tuple[int, int] = (0, 0)
    slow: tuple[int, int] = (0, 0)
    capacity: float = 0.0  # calls a second that it answers in time while it is slow
    deaths: tuple[int, ...] = ()  # of coordinator and worker, together: the hardest


@dataclass
class Seen:
    """What the week came to."""

    recorded: bytearray
    twice: int = 0  # second records of one link
    outside: int = 0  # calls outside the windows
    above_cap: int = 0
    above_limit: int = 0  # seconds in which users and batch were more than the provider takes
    behind: float = (
        0.0  # seconds of its course, beyond one link, that the worst undisturbed minute lost, but for those that may use the reserve
    )
    visited: int = 0  # chunks
    failed: int = 0
    unknown: int = 0  # calls whose answer was lost with the worker
    in_flight: int = 0  # at deaths
    too_much: int = 0  # seconds in which it was asked for more than it can while it was slow
    eased: float = 1.0  # the lowest share that easing came to
    by_day: list[int] = field(default_factory=list)


class _Week:
    def __init__(self, place: Place, trouble: Trouble) -> None:
        self.place, self.trouble = place, trouble
        self.seen = Seen(bytearray(place.links))
        self.todo: deque[tuple[int, int]] = deque([(0, place.links)] if place.links else [])  # positions, disjoint
        self.flying: deque[tuple[int, int, int]] = deque()  # (sent at, positions)
        self.deaths = deque(trouble.deaths)
        self.ease, self.credit, self.away_until = Ease(), 0.0, 0
        self.days = [day_of(on, CLOSURES) for on in rest_of_week(SUNDAY)]
        self.spans = sorted(_spans(place.np_times))
        self.begins = [begins for begins, _ in self.spans]

    def run(self) -> Seen:
        for ahead in range(len(self.days)):
            before = self.recorded
            self._day(ahead, self._plan(ahead))
            self.seen.by_day.append(self.recorded - before)
        return self.seen

    @property
    def recorded(self) -> int:
        return self.seen.recorded.count(1)

    @property
    def left(self) -> int:
        return sum(behind - first for first, behind in self.todo)

    def _plan(self, ahead: int) -> Plan:
        """The night's plan, from what remains."""
        days = tuple(self.days[ahead:])
        return plan(
            Outlook(
                org_code="A1MOABK001",
                days=days,
                user_calls=self.place.user_calls[ahead:],
                room=tuple(self._room(day, number) for number, day in enumerate(days, ahead)),
                links=self.left,
                calls_per_link=self.place.calls_per_link,
            )
        )

    def _room(self, day: Day, ahead: int) -> int:
        windows = left_on(day.on, self.place.np_times, now=_midnight(day), finish=FINISH)
        return room(windows, self.place.calls_per_second, user_calls=PROFILE.within(self.place.user_calls[ahead], windows))

    def _day(self, ahead: int, made: Plan) -> None:
        day = self.days[ahead]
        minutes = minutes_of(left_on(day.on, self.place.np_times, now=_midnight(day), finish=FINISH))
        todays = made.days[0].links
        held_back = self.left - todays  # for other days
        course = course_of(todays, len(minutes))
        for slot, begins in enumerate(minutes):
            left = self.left - held_back
            at = ahead * DAY + int((begins - _midnight(day)).total_seconds()) * 10
            size = size_of(course, slot, left, self._limit(at, ahead))
            if not size:
                continue
            disturbed = self._disturbed(at)
            self._minute(at, size, ahead)
            if not disturbed and size == course.share(slot, left) and slot + course.spread <= course.behind:
                was, now = course.total - left, course.total - (self.left - held_back)
                grown = _behind(course, slot + 1, now) - max(_behind(course, slot, was), 0)
                self.seen.behind = max(self.seen.behind, 60 * (grown - (course.behind - course.first) / course.total))
        self._land(math.inf)

    def _limit(self, at: int, ahead: int) -> Limit:
        users = self.place.user_calls[ahead] * PROFILE.hours[at % DAY // HOUR] / 3_600
        return Limit(
            calls_per_second=self.place.calls_per_second,
            user_calls=users,
            calls_per_link=self.place.calls_per_link,
        )

    def _disturbed(self, at: int) -> bool:
        dying = self.away_until > at or (bool(self.deaths) and self.deaths[0] < at + CHUNKS_OF_MINUTE)
        slow = self.ease.share < 1 or _overlaps(self.trouble.slow, at)
        return dying or slow or _overlaps((self.trouble.outage[0], self.trouble.outage[1] + PROBED), at)

    def _minute(self, at: int, size: int, ahead: int) -> None:
        limit = self._limit(at, ahead)
        grid = Grid.of(size, limit.per_100ms(size), per_minute=limit.per_minute)
        if self._is_open(at) and self._is_open(at + CHUNKS_OF_MINUTE - 1):
            return
        if self._disturbed(at):
            self._by_seconds(at, grid, limit)
            return
        for chunk, share in grid.course.filled():
            self._send(at + chunk, share, grid.per_100ms)

    def _by_seconds(self, at: int, grid: Grid, limit: Limit) -> None:
        """Chunk by chunk, with a step of easing after each second."""
        wanted, credit = grid.left / SECONDS_OF_MINUTE, self.credit
        for second in range(0, CHUNKS_OF_MINUTE, CHUNKS_OF_SECOND):
            credit = earned(max(credit, 0.0), self.ease, wanted, second=wanted, now=(at + second) / 10)
            sent = 0
            for chunk in range(second, second + CHUNKS_OF_SECOND):
                if self._is_away(at + chunk) or self._is_open(at + chunk) or not grid.left:
                    continue
                after, share = grid.chunk(chunk)
                if self.ease.share < 1 and share > int(credit):
                    share = int(credit)
                    after = grid.after(share, after.course)
                grid, sent, credit = after, sent + share, credit - share
                self._send(at + chunk, share, grid.per_100ms)
            self._ease(at + second, sent, limit)
        self.credit = credit

    def _ease(self, at: int, sent: int, limit: Limit) -> None:
        calls = sent * self.place.calls_per_link / 1_000
        self.seen.above_limit += calls + limit.user_calls > self.place.calls_per_second + 1
        is_slow = self.trouble.slow[0] <= at < self.trouble.slow[1] and calls + limit.user_calls > self.trouble.capacity
        answers = math.ceil(calls)
        self.seen.too_much += is_slow
        self.ease = eased(self.ease, SecondSeen(answers=answers, slow=answers if is_slow else 0), now=at / 10, options=OPTIONS)
        self.seen.eased = min(self.seen.eased, self.ease.share)

    def _is_away(self, at: int) -> bool:
        """Whether nobody is there; who dies now takes with them what is in flight."""
        while self.deaths and self.deaths[0] <= at:
            died = self.deaths.popleft()
            self._land(died)
            self.seen.in_flight += sum(behind - first for _, first, behind in self.flying)
            for _, first, behind in reversed(self.flying):
                self.todo.appendleft((first, behind))  # their intent is known, their outcome is not: once more
                self.seen.unknown += behind - first
            self.flying.clear()
            self.away_until = died + AWAY
        return at < self.away_until

    def _is_open(self, at: int) -> bool:
        begins, ends = self.trouble.outage
        return begins + NOTICED <= at < ends + PROBED if ends > begins else False

    def _send(self, at: int, share: int, cap: int) -> None:
        if not share:
            return
        self.seen.visited += 1
        self.seen.above_cap += share > cap
        span = bisect_right(self.begins, at) - 1
        self.seen.outside += share * (span < 0 or at + ANSWER > self.spans[span][1])
        self._land(at)
        fails = self.trouble.outage[0] <= at < self.trouble.outage[1]
        for first, behind in self._taken(share):
            if fails:
                self.seen.failed += behind - first
                self.todo.appendleft((first, behind))
            else:
                self.flying.append((at, first, behind))

    def _taken(self, count: int) -> list[tuple[int, int]]:
        taken = []
        while count:
            first, behind = self.todo.popleft()
            end = min(behind, first + count)
            if end < behind:
                self.todo.appendleft((end, behind))
            taken.append((first, end))
            count -= end - first
        return taken

    def _land(self, now: float) -> None:
        """Records what was answered by now."""
        while self.flying and self.flying[0][0] + ANSWER <= now:
            _, first, behind = self.flying.popleft()
            self.seen.twice += self.seen.recorded.count(1, first, behind)
            self.seen.recorded[first:behind] = b"\x01" * (behind - first)


def week(place: Place, trouble: Trouble | None = None) -> Seen:
    """One provider's week."""
    return _Week(place, trouble or Trouble()).run()


def hourly(minute: float) -> tuple[int, ...]:
    """A death in every hour of the week, so many minutes into it."""
    return tuple(int(hour * HOUR + minute * CHUNKS_OF_MINUTE) for hour in range(7 * 24))


def _spans(np_times: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """The provider's own reading of its windows."""
    for ahead in range(7):
        for np_time in np_times:
            yield tuple(ahead * DAY + int(hhmm[:2]) * HOUR + int(hhmm[2:]) * CHUNKS_OF_MINUTE for hhmm in np_time.split(":"))  # type: ignore[misc]


def _overlaps(span: tuple[int, int], at: int) -> bool:
    return span[0] < at + CHUNKS_OF_MINUTE and at < span[1]


def _midnight(day: Day) -> datetime:
    return datetime.combine(day.on, time.min, KST)


def _behind(course: Course, minute: int, sent: int) -> float:
    """How far sending is behind a course of minutes, in them; below 0: ahead."""
    pace = course.total / max(course.behind - course.first, 1)
    return (course.until(minute) - sent) / pace if pace else 0.0
