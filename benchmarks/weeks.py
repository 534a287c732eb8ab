"""Half a year of users, invented from a seed: what forecasts and plans are tried on. RULE but for the seed's randomness.

Calls of a day are a level that grows, times a factor of the weekday, times 2.2 on a payday and less on the day after it, times smaller
ones at the ends of the month and on days of rest, times noise: one part that stays for days, one that does not, and now and then a day on
which 1.4 times as many come for no reason that a calendar knows. None of these factors is told to the forecast, whose profile has others,
and the day after a payday is nothing that it has a word for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import date, timedelta

from msgspec import Struct

from backend.batch.calendar import Closures, Day, Mark, day_of, days_from
from backend.batch.forecast import Past

FIRST = date(2026, 1, 4)  # a Sunday
WEEKS = 26
HISTORY = 182  # days before the first
_A_DAY = timedelta(days=1)


class Weather(Struct, frozen=True, kw_only=True):
    """What the days are like."""

    level: float = 1_000_000.0  # calls of an ordinary day, at the start
    growth: float = 0.0007  # a day
    weekdays: tuple[float, ...] = (1.10, 1.02, 1.00, 1.01, 1.06, 0.88, 0.84)  # Monday first
    payday: float = 2.2
    day_after: float = 1.25
    month_start: float = 1.20
    month_end: float = 1.12
    holiday: float = 0.78
    trading: float = 1.0
    lasting: float = 0.04  # standard deviation of the noise that stays, of logarithms
    stays: float = 0.7  # of it, a day later
    passing: float = 0.03  # of the noise that does not
    surprises: float = 1 / 60  # a day
    surprise: float = 1.4
    calls_of_user: float = 5.0


def days_of(closures: Closures, *, first: date = FIRST - HISTORY * _A_DAY, count: int = HISTORY + 7 * WEEKS) -> list[Day]:
    """The history and the half year."""
    return [day_of(on, closures) for on in days_from(first, count)]


def lived(days: Sequence[Day], weather: Weather, seed: int) -> list[Past]:
    """What users did on each of these days."""
    chance = random.Random(seed)
    lasting, found = 0.0, []
    for age, day in enumerate(days):
        lasting = weather.stays * lasting + chance.gauss(0, weather.lasting) * math.sqrt(1 - weather.stays**2)
        noise = lasting + chance.gauss(0, weather.passing)
        surprise = weather.surprise if chance.random() < weather.surprises else 1.0
        users = weather.level / weather.calls_of_user * _factor(day, days[age - 1] if age else None, weather)
        users *= math.exp(weather.growth * age + noise) * surprise
        found.append(Past(day, round(users * weather.calls_of_user * math.exp(chance.gauss(0, 0.01))), round(users)))
    return found


def _factor(day: Day, before: Day | None, weather: Weather) -> float:
    marks = {
        Mark.PAYDAY: weather.payday,
        Mark.MONTH_START: weather.month_start,
        Mark.MONTH_END: weather.month_end,
        Mark.HOLIDAY: weather.holiday,
        Mark.TRADING: weather.trading,
    }
    after_payday = weather.day_after if before is not None and Mark.PAYDAY in before.marks else 1.0
    return weather.weekdays[day.weekday] * math.prod(marks[mark] for mark in day.marks) * after_payday
