"""A week of the batch before there is one: what the plans would be for so many users. RULE: pure.

In: the providers, how many users each has, what is assumed or known about the users' days. Out: a plan for each provider, and all of them
together by day and by half hour, beside the two ways without a plan. Nothing is read and nothing is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from msgspec import Struct

from backend.batch.calendar import DAYS_OF_A_WEEK, Closures, Day, Window, day_of, days_from, left_on, sunday_of
from backend.batch.forecast import Error, Options, Past, forecast
from backend.batch.plan import ONE_CALL, Outlook, Plan, plan, room
from backend.batch.profiles import Profile, profile_of
from backend.clock import KST
from backend.events import Industry
from backend.providers.contract import Provider

HALF_HOUR = timedelta(minutes=30)
HALF_HOURS = 48


class Assumed(Struct, frozen=True, kw_only=True):
    """What nobody has measured before the first week."""

    daily: float = 0.4  # of all users that come on an average day: the batch is then 22 % of all calls, as it was in 2024's settlement
    calls_per_link: float = 4.0
    calls_per_second: float = 500.0  # that a provider takes of which nothing is agreed
    finish: timedelta = timedelta(seconds=60)  # the longest collection: no call begins later than that before a window's end


class Visitors(Struct, frozen=True):
    """Distinct users of the app by day: of past days to forecast from, of days of the week itself to take as they are."""

    by_day: tuple[tuple[date, int], ...] = ()


class Pile(Struct, frozen=True):
    """Calls of users and of the batch in one stretch of time, all providers together."""

    users: float
    batch: float

    @property
    def calls(self) -> float:
        return self.users + self.batch


class Rehearsal(Struct, frozen=True, kw_only=True):
    """The week."""

    days: tuple[Day, ...]
    plans: tuple[Plan, ...]  # one per provider, in the order given
    errors: tuple[Error, ...]  # of the forecasts, where there is history
    by_day: tuple[Pile, ...]
    by_half_hour: tuple[tuple[Pile, ...], ...]  # for each day, from midnight

    @property
    def flatness(self) -> float:
        """Peak to mean of the week as planned."""
        return peak_to_mean([pile.calls for pile in self.by_day])

    @property
    def equal(self) -> float:
        """With an equal share of the batch each day."""
        batch = sum(pile.batch for pile in self.by_day) / len(self.by_day)
        return peak_to_mean([pile.users + batch for pile in self.by_day])

    @property
    def at_once(self) -> float:
        """With all of the batch in the first night."""
        batch = sum(pile.batch for pile in self.by_day)
        return peak_to_mean([pile.users + batch * (day == 0) for day, pile in enumerate(self.by_day)])


def peak_to_mean(calls: Sequence[float]) -> float:
    """1: flat; without any calls, flat."""
    return max(calls) * len(calls) / sum(calls) if sum(calls) else 1.0


def rehearse(
    providers: Sequence[Provider], *, users: int, week: date, closures: Closures, visitors: Visitors, assumed: Assumed
) -> Rehearsal:
    """The week in which the day `week` lies, with every user linked to every provider."""
    days = tuple(day_of(on, closures) for on in days_from(sunday_of(week), DAYS_OF_A_WEEK))
    seen = {
        industry: _users_calls(industry, days, users, closures, visitors, assumed) for industry in {each.industry for each in providers}
    }
    outlooks = [_outlook(provider, days, seen[provider.industry][0], users, assumed) for provider in providers]
    plans = tuple(plan(outlook) for outlook in outlooks)
    return Rehearsal(
        days=days,
        plans=plans,
        errors=tuple(error for _, error in seen.values() if error is not None),
        by_day=tuple(
            _together([Pile(made.days[day].user_calls, made.days[day].batch_calls) for made in plans]) for day in range(len(days))
        ),
        by_half_hour=tuple(_half_hours(providers, plans, ahead, day, assumed) for ahead, day in enumerate(days)),
    )


def _users_calls(
    industry: Industry, days: tuple[Day, ...], users: int, closures: Closures, visitors: Visitors, assumed: Assumed
) -> tuple[tuple[int, ...], Error | None]:
    """Of one provider of the industry on each day: as told, else as forecast from earlier days, else by the profile."""
    profile = profile_of(industry)
    told = {on: round(came * profile.calls_of_user) for on, came in visitors.by_day}
    past = [
        Past(day_of(on, closures), round(came * profile.calls_of_user), came) for on, came in sorted(visitors.by_day) if on < days[0].on
    ]
    expected = forecast(days, past, profile=profile, options=Options(), users=round(users * assumed.daily))
    return tuple(told.get(day.on, calls) for day, calls in zip(days, expected.calls, strict=True)), expected.error


def _outlook(provider: Provider, days: tuple[Day, ...], calls: tuple[int, ...], users: int, assumed: Assumed) -> Outlook:
    profile, per_second = profile_of(provider.industry), provider.calls_per_second or assumed.calls_per_second
    windows = [_windows(provider, day, assumed) for day in days]
    return Outlook(
        org_code=provider.org_code,
        days=days,
        user_calls=calls,
        room=tuple(
            room(each, per_second, user_calls=profile.within(of_users, each)) for each, of_users in zip(windows, calls, strict=True)
        ),
        links=users,
        calls_per_link=round(assumed.calls_per_link * ONE_CALL),
    )


def _windows(provider: Provider, day: Day, assumed: Assumed) -> tuple[Window, ...]:
    return left_on(day.on, provider.transfer_windows, now=datetime.combine(day.on, time.min, KST), finish=assumed.finish)


def _half_hours(providers: Sequence[Provider], plans: Sequence[Plan], ahead: int, day: Day, assumed: Assumed) -> tuple[Pile, ...]:
    """The batch lies evenly over each provider's windows, as its pace has it."""
    midnight = datetime.combine(day.on, time.min, KST)
    bins = [Window(midnight + number * HALF_HOUR, midnight + (number + 1) * HALF_HOUR) for number in range(HALF_HOURS)]
    each: list[list[Pile]] = [[] for _ in bins]
    for provider, made in zip(providers, plans, strict=True):
        profile, windows, planned = profile_of(provider.industry), _windows(provider, day, assumed), made.days[ahead]
        seconds = sum(window.seconds for window in windows)
        for found, one in zip(each, bins, strict=True):
            share = sum(_common(window, one) for window in windows) / seconds if seconds else 0.0
            found.append(Pile(_users_in(profile, planned.user_calls, one), planned.batch_calls * share))
    return tuple(_together(found) for found in each)


def _users_in(profile: Profile, calls: int, one: Window) -> float:
    return profile.within(calls, [one])


def _common(one: Window, other: Window) -> float:
    return max((min(one.ends, other.ends) - max(one.begins, other.begins)).total_seconds(), 0.0)


def _together(piles: Sequence[Pile]) -> Pile:
    return Pile(sum(pile.users for pile in piles), sum(pile.batch for pile in piles))
