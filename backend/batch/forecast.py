"""How many calls users will make, day by day, and how wrong that has been. RULE: pure.

In: for one provider, the calls and the unique users of past days (roll-ups), and what kind of days those were and the next ones are. Out: a
`Forecast` with its measured error. Without history the profile speaks alone; with every day of it the days themselves speak louder.

The model is multiplicative: a level, times a factor for the weekday and one for each mark (payday, holiday, ...), fitted to logarithms
by least squares that forget old days and are drawn towards the profile; the last days' deviation goes on, fading. Where unique users are
known, they are fitted, times the calls of one user: a day on which our own retries doubled the calls did not bring twice as many people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from statistics import median

from msgspec import Struct

from backend.batch.calendar import SUNDAY, Day, Mark
from backend.batch.fitting import fitted
from backend.batch.profiles import Profile

MARKS = tuple(Mark)
_LEVEL = 1 + SUNDAY + 1 + len(MARKS)  # columns: level, seven weekdays, marks
_HORIZON = 7  # days: the error is that of a week planned on its first night


class Options(Struct, frozen=True, kw_only=True):
    """How much is believed."""

    half_life: float = 45.0  # days after which a day counts half
    stiffness: float = 2.0  # days' worth of weight by which weekdays and marks are drawn to the profile
    persistence: float = 0.6  # of a deviation that is still there a day later
    remembered: int = 3  # last days whose deviation counts
    longest: int = 200  # days of history that are looked at


class Past(Struct, frozen=True):
    """One day of one provider as it was; calls by users, not by the batch."""

    day: Day
    calls: int
    users: int | None = None  # distinct; None: not counted


class Error(Struct, frozen=True):
    """How wrong forecasts of whole weeks were, each made on the night before its first day."""

    weeks: int
    absolute: float  # sum of what was wrong by the sum of what came; 0.1: a tenth
    bias: float  # above 0: too much was expected


class Forecast(Struct, frozen=True):
    """What to expect."""

    calls: tuple[int, ...]  # by day, as asked
    error: Error | None  # None: there is not enough history to tell, or it was not asked for


def forecast(
    days: Sequence[Day], past: Sequence[Past], *, profile: Profile, options: Options, users: int | None = None, errors: bool = True
) -> Forecast:
    """Calls of users on each of `days`. `past`: of this provider, in order, holes allowed, all before `days`.

    `users`: how many come on an average day, for a provider without history; None: nobody is expected then. `errors`: whether to
    measure how wrong it has been, which costs as much as four forecasts more.
    """
    return Forecast(tuple(_expected(days, past, profile, options, users)), _error(past, profile, options) if errors else None)


def _expected(days: Sequence[Day], past: Sequence[Past], profile: Profile, options: Options, users: int | None) -> list[int]:
    known = [one for one in past if one.calls > 0 and one.users != 0][-options.longest :]
    if not known:
        level = math.log(users * profile.calls_of_user) if users else None
        return [0 if level is None else round(math.exp(level + _by_profile(day, profile))) for day in days]
    of_one, seen = _series(known)
    fit = fitted(
        rows=[(_columns(one.day), math.log(count) - _by_profile(one.day, profile)) for one, count in zip(known, seen, strict=True)],
        weights=[0.5 ** ((known[-1].day.on - one.day.on).days / options.half_life) for one in known],
        stiffness=[1e-6, *[options.stiffness] * (_LEVEL - 1)],
    )
    drift = _drift(known, seen, fit, profile, options)
    return [
        round(of_one * math.exp(_fit(day, fit, profile) + drift * options.persistence ** _ahead(day, known[-1].day.on))) for day in days
    ]


def _series(known: Sequence[Past]) -> tuple[float, list[float]]:
    """What is fitted, and the calls for each of it: users where all days have them, else the calls themselves."""
    if any(one.users is None for one in known):
        return 1.0, [float(one.calls) for one in known]
    users = [float(one.users or 0) for one in known]
    return median(one.calls / count for one, count in zip(known[-28:], users[-28:], strict=True)), users


def _drift(known: Sequence[Past], seen: Sequence[float], fit: Sequence[float], profile: Profile, options: Options) -> float:
    """How far the last days were from the fit, together, the newest counting most; as if it were the newest day's."""
    last = known[-1].day.on
    found = weight = 0.0
    for one, count in list(zip(known, seen, strict=True))[-options.remembered :]:
        share = options.persistence ** (last - one.day.on).days
        found += share * (math.log(count) - _fit(one.day, fit, profile))
        weight += share
    return found / weight


def _ahead(day: Day, last: date) -> int:
    return max((day.on - last).days, 0)


def _fit(day: Day, fit: Sequence[float], profile: Profile) -> float:
    return _by_profile(day, profile) + sum(fit[column] for column in _columns(day))


def _by_profile(day: Day, profile: Profile) -> float:
    return math.log(profile.weekdays[day.weekday]) + sum(math.log(profile.marks.get(mark, 1.0)) for mark in day.marks)


def _columns(day: Day) -> tuple[int, ...]:
    """Which parts of the model a day has; each counts once."""
    return (0, 1 + day.weekday, *(2 + SUNDAY + MARKS.index(mark) for mark in sorted(day.marks)))


def _error(past: Sequence[Past], profile: Profile, options: Options, weeks: int = 4) -> Error | None:
    """Each of the last weeks, as it would have been expected on the night before it began."""
    told = wrong = came = 0.0
    measured = 0
    for begins in range(len(past) - _HORIZON * weeks, len(past), _HORIZON):
        if begins < _HORIZON:
            continue
        week = past[begins : begins + _HORIZON]
        for one, calls in zip(week, _expected([one.day for one in week], past[:begins], profile, options, None), strict=True):
            told, wrong, came = told + calls - one.calls, wrong + abs(calls - one.calls), came + one.calls
        measured += 1
    return Error(measured, wrong / came, told / came) if came else None
