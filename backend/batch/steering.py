"""What operators do with the batch: look at it, hold it, let it go on, open a window for a rehearsal.

In: an operator's word. Out: it is committed with who said it before the answer, and found by the leading coordinator and by senders within
a second. Raises `EngineUnavailable` while PostgreSQL is away; nothing here needs Valkey.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from backend.batch.calendar import in_korea, sunday_of
from backend.batch.closures import closures_of
from backend.batch.courses import Task
from backend.batch.overview import OfProvider, explained, most_counted, recent, remaining, shown
from backend.batch.pace import MINUTE
from backend.batch.reconciling import task_now
from backend.batch.terms import Terms
from backend.clock import Clock, iso
from backend.errors import Problem, Refused
from backend.providers.contract import Provider
from backend.providers.directory import Directory
from backend.storage import batch_plans, batch_steering
from backend.storage.batch_steering import ALL
from backend.storage.database import Database
from backend.storage.operators import Action
from backend.storage.statements import Connection, Row

MOST_LISTED = 100  # attempts of which nobody knows how they ended
OPENS_IN = timedelta(seconds=3)  # from an operator's word to the first minute of a rehearsal: its links are counted meanwhile


class Word(Struct, frozen=True, kw_only=True):
    """Who says something, and about whom."""

    who: str
    request_id: str
    org_code: str | None  # None: about every provider
    reason: str = ""


class Opened(Struct, frozen=True):
    """A rehearsal's window."""

    begins: datetime
    ends: dict[str, datetime]  # by provider: a provider's own window may close before
    replaced: frozenset[str]  # providers of which another rehearsal was open: it ends with this one's beginning


class Steering:
    """One per API process."""

    def __init__(
        self, *, database: Database, directory: Callable[[], Directory], terms: Terms, sandboxed: Callable[[Provider], bool], clock: Clock
    ) -> None:
        self._database = database
        self._directory = directory
        self._sandboxed = sandboxed
        self._terms = terms
        self._clock = clock

    async def status(self) -> dict[str, Any]:
        """`GET /ops/batch`."""
        now = self._clock.now()
        week = sunday_of(in_korea(now))
        async with self._database.reading() as connection:
            paused = await batch_steering.paused(connection, now)
            known = await self._known(connection, paused, now)
            unknown = await batch_steering.unknown_attempts(connection, week, MOST_LISTED)
        return {
            "week": week.isoformat(),
            "paused": ALL in paused,
            "providers": [shown(of, self._terms, now) for of in known],
            "unknown_attempts": [dict(row) | {name: iso(row[name]) for name in ("minute", "sent_at")} for row in unknown],
        }

    async def plan(self) -> dict[str, Any]:
        """`GET /ops/batch/plan`."""
        today = in_korea(self._clock.now())
        week = sunday_of(today)
        async with self._database.reading() as connection:
            plans = {row["org_code"]: row for row in await batch_plans.plans(connection, week, today)}
            days = _by_provider(await batch_plans.days_of(connection, week))
        closures = closures_of(range(week.year - 1, week.year + 2)).but(self._terms.said)
        planned = [provider for provider in self._directory().providers if provider.org_code in plans]
        each = [explained(one, plans[one.org_code], days.get(one.org_code, []), closures) for one in planned]
        return {"week": week.isoformat(), "providers": each}

    async def pause(self, word: Word) -> bool:
        """Holds the batch of one provider, or all of it. Whether that one, or all, is held: True."""
        done = self._action(word, "batch.pause")
        await self._database.single(lambda connection: batch_steering.pause(connection, done))
        return True

    async def resume(self, word: Word) -> bool:
        """Lets it go on, and has it planned anew. True: it is held still, since all are."""
        done = self._action(word, "batch.resume")
        week = sunday_of(in_korea(done.at))
        await self._database.single(lambda connection: batch_steering.resume(connection, done, week))
        async with self._database.reading() as connection:
            return ALL in await batch_steering.paused(connection, done.at)

    async def rehearse(self, word: Word, within: timedelta) -> Opened:
        """Has all that is due read within so long from now. Raises `Refused` if that is outside a real provider's window."""
        begins = self._clock.now() + OPENS_IN
        ends = {provider.org_code: self._closes(provider, begins, within) for provider in self._asked(word)}
        done = {"now": self._clock.now(), "who": word.who, "reason": word.reason, "request_id": word.request_id}
        replaced = await self._database.single(lambda connection: batch_plans.add_windows(connection, ends, begins, done))
        return Opened(begins, ends, replaced)

    def _closes(self, provider: Provider, begins: datetime, within: timedelta) -> datetime:
        """An invented institution has no window that binds it; a real one has, whatever line leads to it."""
        if self._sandboxed(provider):
            return begins + within
        for window in self._terms.windows_on(provider, in_korea(begins)):
            if window.begins <= begins and begins + MINUTE <= window.ends:
                return min(begins + within, window.ends)
        times = ", ".join(provider.transfer_windows)
        raise Refused(Problem.OUTSIDE_WINDOW, f"outside_window: {provider.org_code} takes scheduled calls only at {times} in Korea.")

    def _asked(self, word: Word) -> Sequence[Provider]:
        providers = self._directory().providers
        return [one for one in providers if word.org_code in {None, one.org_code}]

    def _action(self, word: Word, action: str) -> Action:
        return Action(
            at=self._clock.now(),
            who=word.who,
            action=action,
            org_code=word.org_code or ALL,
            reason=word.reason,
            request_id=word.request_id,
        )

    async def _known(self, connection: Connection, paused: Mapping[str, Row], now: datetime) -> list[OfProvider]:
        """What rows say of each provider, a few statements for all of them."""
        providers, today, due = self._directory().providers, in_korea(now), self._terms.due_at(now)
        plans = {row["org_code"]: row for row in await batch_plans.plans(connection, due.week, today)}
        rehearsals = {row["org_code"]: row for row in reversed(await batch_plans.open_windows(connection, now))}
        days = _by_provider(await batch_plans.days_of(connection, due.week))
        sums = await batch_steering.sums(connection, due.week)
        troubled = await batch_steering.troubled(connection, due.week)
        latest = await batch_steering.latest(connection, now - MINUTE, now)
        tasks = dict(self._tasks(providers, plans, rehearsals, now))
        taken = await batch_steering.taken_since(connection, [(code, task.since) for code, task in tasks.items()])
        lately = await batch_steering.taken_since(connection, [(code, recent(task, now)) for code, task in tasks.items()])
        remain = {one.org_code: remaining(plans.get(one.org_code), sums.get(one.org_code)) for one in providers}
        left = {code: task.left(taken.get(code, 0)) for code, task in tasks.items() if task.is_rehearsal}
        most = most_counted({code: max(links, left.get(code, 0)) for code, links in remain.items()})
        counted = await batch_steering.few_due(connection, most, due)  # after the sums: what is done is not due, too
        return [
            OfProvider(
                provider=provider,
                plan=plans.get(code),
                days=days.get(code, ()),
                sums=sums.get(code),
                troubled=troubled.get(code),
                latest=latest.get(code),
                remains=remain[code],
                counted=counted.get(code, 0),
                is_exact=counted.get(code, 0) < most[code],
                task=tasks.get(code),
                taken=taken.get(code, 0),
                lately=lately.get(code, 0),
                hold=paused.get(ALL) or paused.get(code),
            )
            for provider in providers
            for code in (provider.org_code,)
        ]

    def _tasks(
        self, providers: Sequence[Provider], plans: dict[str, Row], rehearsals: dict[str, Row], now: datetime
    ) -> list[tuple[str, Task]]:
        each = (
            (one.org_code, task_now(one, plans[one.org_code], rehearsals.get(one.org_code), self._terms, now))
            for one in providers
            if one.org_code in plans
        )
        return [(code, task) for code, task in each if task is not None]


def _by_provider(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["org_code"], []).append(row)
    return found
