"""Ways to spread a batch over days, lived through half a year. RULE: from users' days to the batch's.

In: what users did on each day. Out: what the batch does on each day of the half year, decided each night from what was known then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from backend.batch.calendar import DAYS_OF_A_WEEK, Day
from backend.batch.forecast import Options, Past, forecast
from backend.batch.plan import ONE_CALL, Outlook, plan
from backend.batch.profiles import Profile
from benchmarks.weeks import HISTORY, WEEKS

LIMITLESS = 10**12
SHARE = 0.9  # calls of the batch in a week, of the users' in an average week of the history
_PROFILE, _OPTIONS = Profile(), Options()

Expecting = Callable[[Sequence[Past], int, int], tuple[int, ...]]  # of everything, from which day on, how many days


def forecasting(past: Sequence[Past], first: int, count: int) -> tuple[int, ...]:
    """What is expected on the night before `first`."""
    days = [one.day for one in past[first : first + count]]
    return forecast(days, past[:first], profile=_PROFILE, options=_OPTIONS, errors=False).calls


def knowing(past: Sequence[Past], first: int, count: int) -> tuple[int, ...]:
    """What nobody can know: what will be."""
    return tuple(one.calls for one in past[first : first + count])


def volume(past: Sequence[Past]) -> int:
    """Calls of the batch in each week."""
    return int(SHARE * sum(one.calls for one in past[HISTORY - 4 * DAYS_OF_A_WEEK : HISTORY]) / 4)


def at_once(past: Sequence[Past]) -> list[int]:
    """All in the first night."""
    return ([volume(past)] + [0] * 6) * WEEKS


def equal(past: Sequence[Past]) -> list[int]:
    """A seventh each day."""
    week = volume(past)
    return [(day + 1) * week // 7 - day * week // 7 for day in range(7)] * WEEKS


def by_week(past: Sequence[Past], expecting: Expecting) -> list[int]:
    """Every link once from Sunday to Saturday; planned again each night from what remains."""
    amounts: list[int] = []
    for sunday in range(HISTORY, HISTORY + 7 * WEEKS, 7):
        left = volume(past)
        for ahead in range(7):
            count = 7 - ahead
            amounts.append(_today(past[sunday + ahead : sunday + 7], expecting(past, sunday + ahead, count), left, None, None))
            left -= amounts[-1]
    return amounts


def by_age(past: Sequence[Past], expecting: Expecting, *, least: int = 1) -> list[int]:
    """No link older than seven days, none refreshed before it is `least` days old; the oldest go first."""
    week = volume(past)
    ages = [(age + 1) * week // 7 - age * week // 7 for age in range(7)]  # refreshed 1, 2, .. 7 days ago
    amounts: list[int] = []
    for day in range(HISTORY, HISTORY + 7 * WEEKS):
        due = tuple(accumulate(reversed(ages)))
        ready = tuple(sum(count for age, count in enumerate(ages, 1) if age + ahead >= least) for ahead in range(7))
        expected = expecting(past, day, min(7, len(past) - day))
        expected += (expected[-1],) * (7 - len(expected))
        amount = _today(_week(past, day), expected, week, due, tuple(max(pair) for pair in zip(due, ready, strict=True)))
        amounts.append(amount)
        ages = _older(ages, amount)
    return amounts


def _week(past: Sequence[Past], day: int) -> Sequence[Past]:
    """Behind the end the last days stand in; only today's amount is used."""
    return [*past[day : day + 7], *[past[-1]] * 7][:7]


def _older(ages: Sequence[int], amount: int) -> list[int]:
    """A day later: the oldest of them have gone and begin anew."""
    left, gone = list(ages), amount
    for age in reversed(range(7)):
        taken = min(left[age], gone)
        left[age], gone = left[age] - taken, gone - taken
    return [amount, *left[:6]]


def _today(days: Sequence[Past], expected: tuple[int, ...], links: int, due: tuple[int, ...] | None, ready: tuple[int, ...] | None) -> int:
    made = plan(
        Outlook(
            org_code="A1MOABK001",
            days=tuple[Day, ...](one.day for one in days),
            user_calls=expected,
            room=(LIMITLESS,) * len(days),
            links=links,
            calls_per_link=ONE_CALL,
            due=due,
            ready=ready,
        )
    )
    return made.days[0].links
