"""Makes plans: each night, where one is missing, when somebody asks, and when a provider takes other than it did. Counts for rehearsals.

In: rows, and the moment. Out: rows of plans and their days. The coordinator that leads runs it; two at once write the same twice. What is
due is counted in slices, a few providers at a time, those first whose windows open first. Nothing is sent here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from backend.batch.calendar import Closures, in_korea, sunday_of
from backend.batch.closures import closures_of
from backend.batch.commands import BEGINNING
from backend.batch.courses import counts_from, is_outgrown, known_until, must_be_planned
from backend.batch.forecast import Error
from backend.batch.outlooks import DueLinks, Known, PastDay, outlook_of, windows_left
from backend.batch.overview import FEW, day_row
from backend.batch.plan import Plan, plan
from backend.batch.terms import Terms, midnight
from backend.clock import Clock
from backend.providers.contract import Provider
from backend.providers.directory import Directory
from backend.providers.traffic import PROBES
from backend.storage import batch_commands, batch_plans, batch_steering
from backend.storage.batch_due import Due
from backend.storage.database import Database
from backend.storage.statements import Connection, Row, Values

AT_ONCE = 3  # providers whose links are counted at the same time
LOOK = timedelta(seconds=10)  # between two looks for links that are in no plan

Agreed = tuple[tuple[str, ...], float, timedelta]  # windows, calls a second, the longest that a link takes

log = structlog.get_logger(__name__)


class Planning:
    """One per coordinator. A `Sweep`, called each second while it leads; what it finds to do is no lost work."""

    name = "batch_plans"

    def __init__(self, *, database: Database, directory: Callable[[], Directory], terms: Terms, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._terms = terms
        self._clock = clock
        self._looked: datetime | None = None  # for plans that are outgrown
        self._agreed: Mapping[str, Agreed] | None = None  # None: whoever made the plans that are there did not say

    async def sweep(self, now: datetime) -> int:
        """See `plan_missing`."""
        await self.plan_missing(now)
        return 0

    async def plan_missing(self, now: datetime) -> int:
        """Plans what has no plan of today, and counts for rehearsals. How many. Raises `EngineUnavailable`."""
        today = in_korea(now)
        async with self._database.reading() as connection:
            rows = {row["org_code"]: row for row in await batch_plans.plans(connection, sunday_of(today), today)}
            windows = [row for row in await batch_plans.open_windows(connection, now) if row["links"] is None]
        providers = {provider.org_code: provider for provider in self._directory().providers}
        counted = await self._count_rehearsals([row for row in windows if row["org_code"] in providers])
        outgrown = await self._outgrown(rows, now)
        agreed = {code: _agreed(one, self._terms) for code, one in providers.items()}
        anew = outgrown | self._overtaken(agreed, rows)
        wanted = [one for code, one in providers.items() if code in anew or _is_wanted(rows.get(code), now)]
        if wanted:
            await self.plan(wanted, now)
        self._agreed = agreed
        return counted + len(wanted)

    def _overtaken(self, agreed: Mapping[str, Agreed], rows: Mapping[str, Row]) -> frozenset[str]:
        """Providers that take other than their plan was made for; to who begins, those of which the plan was impossible."""
        if self._agreed is None:
            return frozenset(code for code, row in rows.items() if row["left_over"] or row["missing"])
        return frozenset(code for code, each in agreed.items() if self._agreed.get(code, each) != each)

    async def plan(self, providers: Sequence[Provider], now: datetime) -> None:
        """Makes these plans anew from what remains."""
        terms, years = self._terms, range(in_korea(now).year - 1, in_korea(now).year + 2)
        closures = closures_of(years).but(terms.said)
        known = await self._history([provider.org_code for provider in providers], now)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(provider: Provider) -> None:
            async with gate:
                await self._plan_one(provider, known[provider.org_code], closures, now)

        in_order = sorted(providers, key=lambda provider: _opens(provider, terms, now))
        for ended in await asyncio.gather(*map(one, in_order), return_exceptions=True):  # one that fails keeps no other from its plan
            if ended is not None:
                raise ended

    async def _outgrown(self, rows: Mapping[str, Row], now: datetime) -> frozenset[str]:
        """Providers with links that are due and in no plan: made since then, or missed when they were counted."""
        if self._looked is not None and now - self._looked < LOOK:
            return frozenset()
        async with self._database.reading() as connection:
            sums = await batch_steering.sums(connection, sunday_of(in_korea(now)))
            due = await batch_steering.few_due(connection, dict.fromkeys(rows, FEW + 1), self._terms.due_at(now))
        self._looked = now
        return frozenset(
            code
            for code, row in rows.items()
            if is_outgrown(row["links"], taken=sums[code]["taken"] if code in sums else 0, due=due.get(code, 0))
        )

    async def _plan_one(self, provider: Provider, known: Known, closures: Closures, now: datetime) -> None:
        due = replace(self._terms.due_at(now), ripe_before=None)
        links = await self._count(provider.org_code, due, self._terms.min_age_days)
        outlook, error = outlook_of(provider, replace(known, due=links), self._terms, closures, now)
        made = plan(outlook)
        values, days = plan_row(made, error, due, now), [day_row(day) for day in made.days]

        async def deed(connection: Connection) -> None:
            last = await batch_commands.newest(connection, provider.org_code, known_until(now))
            planned_at = counts_from(now, midnight(in_korea(now)), None if last is None else last["minute"])
            await batch_plans.save_plan(connection, {**values, "planned_at": planned_at}, days)

        await self._database.transaction(deed)
        log.info("batch.planned", org_code=made.org_code, links=made.links, today=made.days[0].links, missing=values["missing"])

    async def _history(self, org_codes: Sequence[str], now: datetime) -> dict[str, Known]:
        today = midnight(in_korea(now))
        async with self._database.reading() as connection:
            past = await batch_plans.past_days(connection, org_codes, today, without=PROBES)
            scheduled = await batch_plans.scheduled_calls(connection, org_codes, today)
        days: dict[str, list[PastDay]] = {}
        for row in past:
            days.setdefault(row["org_code"], []).append(PastDay(row["day"], row["calls"], row["users"]))
        return {
            code: Known(
                past=tuple(days.get(code, ())), already=scheduled.get(code, (0, None))[0], calls_per_link=scheduled.get(code, (0, None))[1]
            )
            for code in org_codes
        }

    async def _count(self, org_code: str, due: Due, min_age_days: int) -> tuple[DueLinks, ...]:
        """A connection for each slice: nobody waits long for one."""
        found: dict[tuple[object, object], DueLinks] = {}
        after = (BEGINNING.due_on, BEGINNING.link_id)
        while True:
            async with self._database.reading() as connection:
                rows = await batch_plans.count_slice(connection, org_code, due, after, min_age_days=min_age_days)
            for row in rows:
                key = row["due_on"], row["ripe_on"]
                before = found.get(key)
                found[key] = DueLinks(row["due_on"], row["ripe_on"], row["links"] + (before.links if before else 0))
            if sum(row["seen"] for row in rows) < batch_plans.SLICE:
                return tuple(one for one in found.values() if one.links)
            last = rows[-1]["due_on"]
            after = last, max(row["last"] for row in rows if row["due_on"] == last)

    async def _count_rehearsals(self, windows: Sequence[Row]) -> int:
        now = self._clock.now()
        for row in windows:
            counted = await self._count(row["org_code"], self._terms.due_at(now), 0)
            links = sum(one.links for one in counted)
            async with self._database.reading() as connection:
                await batch_plans.window_counted(connection, row["org_code"], row["begins"], links, self._clock.now())
        return len(windows)


def plan_row(made: Plan, error: Error | None, due: Due, now: datetime) -> Values:
    """Columns of `batch_plans`."""
    short = made.shortfall
    return {
        "week": due.week,
        "org_code": made.org_code,
        "links": made.links,
        "calls_per_link": made.calls_per_link,
        "gap": made.gap,
        "impossible_on": short.on if short is not None else None,
        "missing": short.missing if short is not None else 0,
        "left_over": short.at_the_end if short is not None else 0,
        "forecast_error": error.absolute if error is not None else None,
        "planned_at": now,
    }


def _agreed(provider: Provider, terms: Terms) -> Agreed:
    return provider.transfer_windows, terms.per_second_of(provider), terms.finish_of(provider)


def _is_wanted(row: Row | None, now: datetime) -> bool:
    return must_be_planned(row["planned_at"], is_stale=row["is_stale"], now=now) if row is not None else True


def _opens(provider: Provider, terms: Terms, now: datetime) -> datetime:
    """When its next window opens today; those without one wait for all others."""
    left = windows_left(provider, in_korea(now), terms, now)
    return left[0].begins if left else datetime.max.replace(tzinfo=now.tzinfo)
