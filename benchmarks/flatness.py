"""The page `flatness`: how flat the weeks of users and batch are, by plan and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from time import process_time

from backend.batch.calendar import Mark
from backend.batch.closures import closures_of
from backend.batch.filling import fill
from backend.batch.forecast import Past
from backend.batch.plan import Outlook, plan
from benchmarks.flows import Group, lowest_peak
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.policies import LIMITLESS, at_once, by_age, by_week, equal, forecasting, knowing, volume
from benchmarks.weeks import FIRST, HISTORY, WEEKS, Weather, days_of, lived

AT_ONCE, EQUAL, OURS, SOLVER = "all in the first night", "an equal share each day", "moa, traffic known", "flows, traffic known"
FORECAST, ROUGH, ROUGH_KNOWN, ROUGH_EQUAL = "moa, traffic forecast", "moa, rough weather", "known, rough weather", "equal, rough weather"
AGE, AGE_SIX = "by age, traffic forecast", "by age, not before six days"
ROUGHER = Weather(lasting=0.08, passing=0.06, surprises=1 / 30)
CALM = Weather()
PROVIDERS, USERS = 100, 10_000_000
_DAYS = days_of(closures_of([FIRST.year - 1, FIRST.year]))

Amounts = Callable[[Sequence[Past]], list[int]]


@asynccontextmanager
async def stage() -> AsyncIterator[None]:
    """Nothing is needed."""
    yield


@lru_cache(maxsize=4)
def users(weather: Weather, seed: int) -> list[Past]:
    """One half year, with its history."""
    return lived(_DAYS, weather, seed)


@lru_cache(maxsize=32)
def _heights(weather: Weather, seed: int, way: Amounts) -> list[float]:
    """By which part each week's highest day is above its mean, in percent."""
    past = users(weather, seed)
    both = [one.calls + more for one, more in zip(past[HISTORY:], way(past), strict=True)]
    return [100 * (max(week) * 7 / sum(week) - 1) for week in (both[first : first + 7] for first in range(0, 7 * WEEKS, 7))]


def known(past: Sequence[Past]) -> list[int]:
    return by_week(past, knowing)


def forecast(past: Sequence[Past]) -> list[int]:
    return by_week(past, forecasting)


def aged(past: Sequence[Past]) -> list[int]:
    return by_age(past, forecasting)


def aged_six(past: Sequence[Past]) -> list[int]:
    return by_age(past, forecasting, least=6)


def _kinds() -> list[str]:
    """Of each week: has it a payday, or a holiday; else it is made of trading days."""
    marks = [frozenset().union(*(day.marks for day in _DAYS[first : first + 7])) for first in range(HISTORY, HISTORY + 7 * WEEKS, 7)]
    return ["payday" if Mark.PAYDAY in each else "holiday" if Mark.HOLIDAY in each else "trading" for each in marks]


def _by_kind(heights: Sequence[float]) -> Samples:
    kinds = _kinds()
    found: dict[str, Sequence[float]] = {
        kind: [height for height, its in zip(heights, kinds, strict=True) if its == kind] for kind in ("payday", "holiday", "trading")
    }
    return {**found, "mean": heights, "worst": [max(heights)]}


def _attained(weather: Weather, seed: int, way: Amounts) -> dict[str, Sequence[float]]:
    """How much of the way from an equal share to knowing everything."""
    none, some, all_ = (_heights(weather, seed, each) for each in (equal, way, known))
    average = 100 * (sum(none) - sum(some)) / (sum(none) - sum(all_))
    worst = 100 * (max(none) - max(some)) / (max(none) - max(all_))
    past = users(weather, seed)
    extra = 100 * (sum(way(past)) / (volume(past) * WEEKS) - 1)
    return {"attained": [average], "attained_worst": [worst], "extra": [extra]}


def _variant(name: str, about: str, way: Amounts, weather: Weather = CALM, more: Callable[[Round], Samples] | None = None) -> Variant[None]:
    async def run(_stage: None, each: Round) -> Samples:
        heights = _heights(weather, each.seed, way)
        return {**_by_kind(heights), **_attained(weather, each.seed, way), **(more(each) if more else {})}

    return Variant(name=name, about=about, run=run)


def _planning(each: Round) -> Samples:
    """CPU of planning everything anew, and how far peaks are above the solver's."""
    past = users(CALM, each.seed)
    week = tuple(one.day for one in past[HISTORY : HISTORY + 7])
    outlooks = [
        Outlook(
            org_code=f"A1MOABK{number:03d}",
            days=week,
            user_calls=tuple(one.calls * (50 + number) // 2 for one in past[HISTORY + number : HISTORY + number + 7]),
            room=(40_000_000,) * 7,
            links=USERS,
            calls_per_link=4_300,
        )
        for number in range(PROVIDERS)
    ]
    began = process_time()
    plans = [plan(outlook) for outlook in outlooks]
    spent = 1_000 * (process_time() - began)
    return {"planning": [spent], "gap": [max(made.gap for made in plans)], "above": [_above_solver(past)]}


def _above_solver(past: Sequence[Past]) -> int:
    """Calls by which peaks are above what flows find, over all weeks, free and with links that are due or ready inside the week."""
    total = volume(past)
    third = total // 3
    found = 0
    for first in range(HISTORY, HISTORY + 7 * WEEKS, 7):
        base = [one.calls for one in past[first : first + 7]]
        for groups, caps in (
            ([Group(0, 6, total)], [LIMITLESS] * 7),
            ([Group(0, 3, third), Group(0, 6, third), Group(3, 6, third)], [total // 4] * 7),
        ):
            due = [sum(group.calls for group in groups if group.last <= day) for day in range(7)]
            ready = [sum(group.calls for group in groups if group.first <= day) for day in range(7)]
            lowest = lowest_peak(base, caps, groups)
            found += abs(fill(base, caps, due, ready).peak - (lowest if lowest is not None else -1))
    return found


async def _solved(_stage: None, each: Round) -> Samples:
    past, total = users(CALM, each.seed), volume(users(CALM, each.seed))
    heights = []
    for first in range(HISTORY, HISTORY + 7 * WEEKS, 7):
        base = [one.calls for one in past[first : first + 7]]
        lowest = lowest_peak(base, [LIMITLESS] * 7, [Group(0, 6, total)])
        heights.append(100 * ((lowest or 0) * 7 / (sum(base) + total) - 1))
    return _by_kind(heights)


_KNOWN, _FORECAST, _COST = "Traffic known", "Traffic forecast, half a year", "Planning"
_PEAKS: Mapping[str, str] = {"payday weeks": "payday", "holiday weeks": "holiday", "trading weeks": "trading"}

BENCHMARK: Benchmark[None] = Benchmark(
    name="flatness",
    title="Flatness: users and batch together, over the days of a week",
    about=(
        "How far is the highest day of a week above that week's mean, calls of users and of the batch together? In percent: 0 is flat. "
        f"Each round is one invented half year from a seed ({WEEKS} weeks from {FIRST} on, with the calendar of that year, after {HISTORY} "
        "days of history): a level that grows, weekdays, paydays of 2.2 times, the day after them of 1.25, ends of months, holidays, noise "
        "that stays (4 %) and noise that passes (3 %), and once in sixty days a day of 1.4 times for no reason. The forecast is told none "
        "of these figures and has no word for the day after a payday. The batch makes nine tenths of the users' calls "
        "(`benchmarks/weeks.py`). **Rough weather** has twice the noise and twice the surprises.",
        "**Attained** is the part of the way from an equal share to knowing the future: of the average week, and of the worst one. **Extra "
        "calls** are those beyond one a week and link. By calendar week there can be none; where no link may be older than seven days, "
        "some go earlier than they must.",
        "**Above the solver**: by how many calls the peaks differ from those that a search by maximal flows finds, over all weeks, once "
        "free and once with links that are due by Wednesday or ready from Wednesday on only. **Gap** is a plan's own proof.",
    ),
    stage=stage,
    variants=(
        _variant(AT_ONCE, "the whole week's batch on Sunday at 01:00.", at_once),
        _variant(EQUAL, "a seventh of it each day.", equal),
        _variant(OURS, "the plan, if it were told what users will do.", known, more=_planning),
        Variant(name=SOLVER, about="the lowest peak by bisection over maximal flows (`benchmarks/flows.py`).", run=_solved),
        _variant(FORECAST, "the plan, made again each night from the forecast and from what remains.", forecast),
        _variant(AGE, "no link older than seven days, whatever week it is; not what the standard's quota allows.", aged),
        _variant(AGE_SIX, "the same, and none refreshed before its sixth day.", aged_six),
        _variant(ROUGH_EQUAL, "an equal share, in rough weather.", equal, ROUGHER),
        _variant(ROUGH, "the plan with its forecast, in rough weather.", forecast, ROUGHER),
        _variant(ROUGH_KNOWN, "the plan that knows, in rough weather.", known, ROUGHER),
    ),
    tables=(
        Table(
            title=_KNOWN,
            columns=(
                *(Column(title, samples, Statistic.MEAN, "%") for title, samples in _PEAKS.items()),
                Column("worst week", "worst", Statistic.MEAN, "%"),
            ),
            variants=(AT_ONCE, EQUAL, OURS, SOLVER),
        ),
        Table(
            title=_FORECAST,
            columns=(
                Column("average week", "mean", Statistic.MEAN, "%"),
                Column("worst week", "worst", Statistic.MEAN, "%"),
                Column("attained", "attained", Statistic.MEAN, "%"),
                Column("attained, worst week", "attained_worst", Statistic.MEAN, "%"),
                Column("extra calls", "extra", Statistic.MEAN, "%"),
            ),
            variants=(EQUAL, FORECAST, OURS, AGE, AGE_SIX, ROUGH_EQUAL, ROUGH, ROUGH_KNOWN),
        ),
        Table(
            title=_COST,
            about=(f"{PROVIDERS} providers of {USERS:,} users each, a whole week, in one process; CPU.",),
            columns=(
                Column("planning all", "planning", Statistic.MEAN, "ms"),
                Column("gap", "gap", Statistic.MEAN, "calls"),
                Column("above the solver", "above", Statistic.MEAN, "calls"),
            ),
            variants=(OURS,),
        ),
    ),
    aims=(
        Aim(variant=FORECAST, table=_FORECAST, column="attained", least=68),
        Aim(variant=FORECAST, table=_FORECAST, column="attained, worst week", least=85),
        Aim(variant=FORECAST, table=_FORECAST, column="extra calls", most=5),
        Aim(variant=OURS, table=_COST, column="planning all", most=50),
        Aim(variant=OURS, table=_COST, column="gap", most=1),
        Aim(variant=OURS, table=_COST, column="above the solver", most=0),
    ),
    plan=Plan(rounds=12, seconds=0, warm_up=0, rate=0),
    quick=Plan(rounds=1, seconds=0, warm_up=0, rate=0),
)
