"""What is known about one provider's rest of the week, from what rows say. RULE: pure.

In: links by when they are due and when they are old enough, the calls that people made on past days, what links cost, the moment. Out: an
`Outlook` for `plan`, and how wrong the forecast has been. What nobody has measured yet is assumed, as `moa plan` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from msgspec import Struct

from backend.batch.calendar import Closures, Day, Window, day_of, in_korea, left_on, rest_of_week
from backend.batch.commands import NEVER_PLANNED
from backend.batch.forecast import Error, Options, Past, forecast
from backend.batch.plan import ONE_CALL, Outlook, room
from backend.batch.profiles import Profile, profile_of
from backend.batch.rehearsal import Assumed
from backend.batch.terms import Terms
from backend.providers.contract import Provider

MOST_CALLS_OF_LINK = 1000  # more than that is no measurement


class DueLinks(Struct, frozen=True):
    """Links of which nothing but this is different."""

    due_on: date
    ripe_on: date | None  # the day from which on they are old enough; None: they are
    links: int


class PastDay(Struct, frozen=True):
    """What people called on a day that is over."""

    on: date
    calls: int
    users: int | None  # None: not counted


class Known(Struct, frozen=True, kw_only=True):
    """What rows say about a provider."""

    due: tuple[DueLinks, ...] = ()
    past: tuple[PastDay, ...] = ()  # in order
    already: int = 0  # calls that the batch made today
    calls_per_link: float | None = None  # None: nothing was measured


def outlook_of(provider: Provider, known: Known, terms: Terms, closures: Closures, now: datetime) -> tuple[Outlook, Error | None]:
    """The rest of the week in which `now` lies, today with what is left of it."""
    days = tuple(day_of(on, closures) for on in rest_of_week(in_korea(now)))
    due, ready = bounds(known.due, [day.on for day in days])
    profile, assumed = profile_of(provider.industry), Assumed()
    past = [Past(day_of(one.on, closures), one.calls, one.users) for one in known.past]
    expected = forecast(days, past, profile=profile, options=Options(), users=round(ready[-1] * assumed.daily))
    cost = assumed.calls_per_link if known.calls_per_link is None else min(known.calls_per_link, MOST_CALLS_OF_LINK)
    return (
        Outlook(
            org_code=provider.org_code,
            days=days,
            user_calls=expected.calls,
            room=tuple(_room(provider, day, calls, profile, terms, now) for day, calls in zip(days, expected.calls, strict=True)),
            links=ready[-1],
            calls_per_link=max(round(cost * ONE_CALL), ONE_CALL),
            already=known.already,
            due=due if terms.max_age_days else None,  # the week alone: all by its end, whatever was left of the one before
            ready=ready,
        ),
        expected.error,
    )


def bounds(due: Sequence[DueLinks], days: Sequence[date]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Links that must have gone, and that may have gone, by the end of each day.

    One that was never planned has until Saturday, and so has one that grows old enough after it was due. Those that are not old enough
    by Saturday wait for the next week.
    """
    these = [one for one in due if one.ripe_on is None or one.ripe_on <= days[-1]]
    ready = tuple(sum(one.links for one in these if one.ripe_on is None or one.ripe_on <= on) for on in days)
    must = [sum(one.links for one in these if one.due_on != NEVER_PLANNED and max(one.due_on, one.ripe_on or days[0]) <= on) for on in days]
    return (*must[:-1], ready[-1]), ready


def _room(provider: Provider, day: Day, calls: int, profile: Profile, terms: Terms, now: datetime) -> int:
    windows = windows_left(provider, day.on, terms, now)
    return room(windows, terms.per_second_of(provider), user_calls=profile.within(calls, windows))


def windows_left(provider: Provider, on: date, terms: Terms, now: datetime) -> tuple[Window, ...]:
    """Where calls may still begin on a day."""
    return left_on(on, provider.transfer_windows, now=now, finish=terms.finish_of(provider))
