"""Sees to it that each minute has its command: makes what is missing, has lost jobs asked for again, closes what nobody will end.

In: plans, rehearsals, pauses, circuits, the moment; each second. Out: rows of commands, jobs on the batch queue, alerts. The coordinator
that leads runs it, and nothing is kept here that the next one could not read. Not here: how a command is carried out (`sending.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from msgspec import Struct

from backend.batch.calendar import Window, in_korea, sunday_of
from backend.batch.commands import BEGINNING, Position, command_job, due_next
from backend.batch.courses import (
    LEAD,
    Range,
    Task,
    chosen,
    is_free,
    is_last_day,
    known_until,
    minute_at,
    pace_to_expect,
    size_at,
    task_of_day,
    task_of_rehearsal,
    too_late,
)
from backend.batch.pace import MINUTE, Limit
from backend.batch.terms import Terms, last_end
from backend.clock import Clock, iso
from backend.jobs.queue import JobQueue, QueueName
from backend.providers.contract import Provider
from backend.providers.directory import Directory
from backend.providers.traffic import PROBES
from backend.reporting.alarms import AlertKind, Facts
from backend.storage import batch_commands, batch_plans, batch_sends, batch_steering
from backend.storage.batch_due import Due
from backend.storage.database import Database
from backend.storage.statements import Connection, Row

SILENT = timedelta(seconds=3)  # a command that is not heard of for so long has lost its job, perhaps
GIVEN_UP = timedelta(seconds=30)  # after the last moment at which it can have ended
USERS_SEEN = timedelta(seconds=10)  # how old the figures of people's calls may be
LOOK = timedelta(seconds=15)  # between two looks at what will not be done in time, and at what died
PACE_SEEN = timedelta(minutes=10)  # so long a provider's pace is looked at
RECOUNTED = timedelta(minutes=15)  # of commands that died, after their minute: so long later nothing of them is recorded any more

log = structlog.get_logger(__name__)

Resting = Callable[[], Awaitable[frozenset[str]]]  # the providers of which a circuit is open
Align = Callable[[AlertKind, Mapping[str, Facts]], Awaitable[int]]  # `Alerts.align`


class Seen(Struct, frozen=True, kw_only=True):
    """What rows say at one moment."""

    plans: Mapping[str, Row]
    rehearsals: Mapping[str, Row]  # the newest that is open, of each provider that has one
    paused: frozenset[str]
    open_commands: Sequence[Row]


class Reconciling:
    """One per coordinator. A `Sweep`, called each second while it leads; what it finds to do is no lost work."""

    name = "batch_commands"

    def __init__(
        self,
        *,
        database: Database,
        queue: JobQueue,
        directory: Callable[[], Directory],
        resting: Resting,
        align: Align,
        terms: Terms,
        clock: Clock,
    ) -> None:
        self._database = database
        self._queue = queue
        self._directory = directory
        self._resting = resting
        self._align = align
        self._terms = terms
        self._clock = clock
        self._user_calls: tuple[datetime, Mapping[str, float]] | None = None  # when it was read; calls a second
        self._looked: datetime | None = None  # back
        self._were_late: frozenset[str] = frozenset()  # then

    async def sweep(self, now: datetime) -> int:
        """See `reconcile`."""
        await self.reconcile(now)
        return 0

    async def reconcile(self, now: datetime) -> int:
        """Makes, asks for and closes what this moment wants. How many commands were made or closed. Raises `EngineUnavailable`."""
        seen = await self._look(now)
        closed = await self._close(seen, now)
        made = await self._make_missing(seen, now)
        lost = [(row["org_code"], row["minute"]) for row in seen.open_commands if _is_silent(row, now)]
        wanted = [*made, *lost]
        if wanted:
            await self._queue.enqueue([command_job(org_code, minute) for org_code, minute in wanted], QueueName.BATCH)
        if self._looked is None or now - self._looked >= LOOK:
            await self._look_back(seen, now)
            self._looked = now
        return len(made) + closed

    async def _look(self, now: datetime) -> Seen:
        today = in_korea(now)
        async with self._database.reading() as connection:
            plans = await batch_plans.plans(connection, sunday_of(today), today, until=known_until(now))
            windows = await batch_plans.open_windows(connection, now)
            return Seen(
                plans={row["org_code"]: row for row in plans},
                rehearsals={row["org_code"]: row for row in reversed(windows)},
                paused=frozenset(await batch_steering.paused(connection, now + LEAD)),
                open_commands=await batch_commands.open_commands(connection),
            )

    # --- commands that are missing ------------------------------------------------------------------------------------

    async def _make_missing(self, seen: Seen, now: datetime) -> list[tuple[str, datetime]]:
        """Provider and minute of those that were made."""
        missing = [
            (provider, task, minute)
            for provider, task in self._tasks(seen, now)
            if (minute := minute_at(task.minutes, now)) is not None
            and task.links
            and is_free(minute, seen.plans[provider.org_code]["newest"])
            and not seen.paused & {"", provider.org_code}
        ]
        if not missing:
            return []
        resting = await self._resting()
        users = await self._users(now)
        made = []
        for provider, task, minute in missing:
            code = provider.org_code
            if code not in resting and await self._make(provider, task, minute, self._limit(provider, seen.plans[code], users)):
                made.append((code, minute))
        return made

    def _tasks(self, seen: Seen, now: datetime) -> list[tuple[Provider, Task]]:
        """What each provider that has a plan is to do today."""
        return [
            (provider, task)
            for provider in self._directory().providers
            if provider.org_code in seen.plans
            and (task := task_now(provider, seen.plans[provider.org_code], seen.rehearsals.get(provider.org_code), self._terms, now))
        ]

    def _limit(self, provider: Provider, plan: Row, users: Mapping[str, float]) -> Limit:
        return Limit(
            calls_per_second=self._terms.per_second_of(provider),
            user_calls=users.get(provider.org_code, 0.0),
            calls_per_link=plan["calls_per_link"],
        )

    async def _make(self, provider: Provider, task: Task, minute: datetime, limit: Limit) -> bool:
        """One command, in one transaction that no other coordinator's runs beside. False: none is to be made."""

        async def deed(connection: Connection) -> bool:
            now = self._clock.now()
            due = self._terms.due_at(max(now, minute))
            if await batch_commands.locked(connection, due.week, provider.org_code) is None:
                return False
            last = await batch_commands.newest(connection, provider.org_code, known_until(now))
            if not is_free(minute, last["minute"] if last is not None else None):
                return False
            taken = await batch_commands.taken_since(connection, provider.org_code, task.since)
            size = size_at(task, minute, taken=taken, limit=limit, now=now)
            found = await _range(connection, provider.org_code, due, last, size)
            if found is None:
                return False
            return await batch_commands.make(connection, _row(provider, minute, due, found, limit, now))

        return await self._database.transaction(deed)

    async def _users(self, now: datetime) -> Mapping[str, float]:
        """Calls a second that people make, of the last hour or two."""
        if self._user_calls is None or now - self._user_calls[0] >= USERS_SEEN:
            since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
            async with self._database.reading() as connection:
                calls = await batch_commands.user_calls(connection, since, without=PROBES)
            seconds = (now - since).total_seconds()
            self._user_calls = now, {org_code: count / seconds for org_code, count in calls.items()}
        return self._user_calls[1]

    # --- commands that nobody ends ------------------------------------------------------------------------------------

    async def _close(self, seen: Seen, now: datetime) -> int:
        """Those of which nothing more is to be expected. How many."""
        finish = {provider.org_code: self._terms.finish_of(provider) for provider in self._directory().providers}
        over = [row for row in seen.open_commands if _is_over(row, finish.get(row["org_code"], self._terms.finish), now)]
        return sum([await self._close_one(row) for row in over])

    async def _close_one(self, row: Row) -> bool:
        async def deed(connection: Connection) -> int | None:
            now = self._clock.now()
            run = await batch_commands.close(connection, row, now)
            if run is None:
                return None
            mine = batch_sends.Run(row["org_code"], row["minute"], run)
            due_on = due_next(row["week"], in_korea(now), self._terms.max_age_days)
            return await batch_sends.lose(connection, mine, due_on=due_on, unknown_attempts=self._terms.unknown_attempts, now=now)

        unknown = await self._database.transaction(deed)
        if unknown is None:
            return False
        log.warning("batch.command_closed", org_code=row["org_code"], minute=iso(row["minute"]), unknown=unknown)
        return True

    # --- what will not be done in time --------------------------------------------------------------------------------

    async def _look_back(self, seen: Seen, now: datetime) -> None:
        """What need not be done each second."""
        async with self._database.reading() as connection:
            await batch_commands.recount(connection, sunday_of(in_korea(now)), now - RECOUNTED)
        await self._alarm(seen, now)

    async def _alarm(self, seen: Seen, now: datetime) -> None:
        late = await self._late(seen, now) if self._terms.automatic and is_last_day(in_korea(now)) else {}
        week = sunday_of(in_korea(now))
        providers = {provider.org_code: provider for provider in self._directory().providers}
        left = {code: max(late.get(code, 0), _impossible(row)) for code, row in seen.plans.items() if code in providers}
        await self._align(
            AlertKind.BATCH_LATE,
            {
                f"batch:{code}": {"org_code": code, "left": count, "by": iso(last_end(providers[code], week))}
                for code, count in left.items()
                if count and self._terms.automatic
            },
        )

    async def _late(self, seen: Seen, now: datetime) -> Mapping[str, int]:
        """Links that the minutes left of the week's last day are too few for, or its provider too slow."""
        tasks = [(provider, task) for provider, task in self._tasks(seen, now) if not task.is_rehearsal]
        users = await self._users(now)
        async with self._database.reading() as connection:
            taken = await batch_commands.taken_by_each(connection, [(provider.org_code, task.since) for provider, task in tasks])
            lately = await batch_commands.ended_since(connection, [provider.org_code for provider, _ in tasks], now - PACE_SEEN)
        late = {}
        for provider, task in tasks:
            code = provider.org_code
            gone = taken.get(code, 0)
            sent, commands = lately.get(code, (0, 0))
            limit = self._limit(provider, seen.plans[code], users).links_per_minute
            was = code in self._were_late
            pace = pace_to_expect(task, taken=gone, limit=limit, sent=sent, commands=commands, is_late=was, now=now)
            late[code] = too_late(task, taken=gone, per_minute=pace, now=now)
        self._were_late = frozenset(code for code, left in late.items() if left)
        return late


def task_now(provider: Provider, plan: Row, rehearsal: Row | None, terms: Terms, now: datetime) -> Task | None:
    """What is to be done now: a rehearsal's, while one is open, else the day's by its plan. None: nothing is, or nobody knows yet.

    `plan`: a row of `batch_plans.plans`; `rehearsal`: of `batch_plans.open_windows`.
    """
    if rehearsal is not None:
        if rehearsal["links"] is None:
            return None
        return task_of_rehearsal(rehearsal["links"], Window(rehearsal["begins"], rehearsal["ends"]), rehearsal["counted_at"])
    today = in_korea(now)
    if not terms.automatic or plan["today"] is None or in_korea(plan["planned_at"]) != today:
        return None
    return task_of_day(plan["today"], terms.minutes_on(provider, today), plan["planned_at"])


async def _range(connection: Connection, org_code: str, due: Due, last: Row | None, size: int) -> Range | None:
    """Behind the last command of this week, or from the beginning; a command without a link is none."""
    if not size:
        return None
    start = Position(last["limit_due"], last["limit_link"]) if last is not None and last["week"] == due.week else BEGINNING
    ahead = await _found(connection, org_code, due, start, size)
    if start == BEGINNING or (ahead is not None and ahead.size == size):
        return ahead
    return chosen(ahead, await _found(connection, org_code, due, BEGINNING, size))


async def _found(connection: Connection, org_code: str, due: Due, start: Position, size: int) -> Range | None:
    found = await batch_commands.find_range(connection, org_code, due, (start.due_on, start.link_id), size)
    return None if found is None else Range(start, Position(*found[0]), found[1])


def _row(provider: Provider, minute: datetime, due: Due, found: Range, limit: Limit, now: datetime) -> dict[str, Any]:
    """Columns of `batch_commands`."""
    return {
        "org_code": provider.org_code,
        "minute": minute,
        "week": due.week,
        "day": in_korea(minute),
        "start_due": found.start.due_on,
        "start_link": found.start.link_id,
        "limit_due": found.limit.due_on,
        "limit_link": found.limit.link_id,
        "size": found.size,
        "per_tenth": limit.per_100ms(found.size),
        "per_minute": max(limit.per_minute, found.size),
        "now": now,
    }


def _heard(row: Row) -> datetime:
    """When a command gave a sign last, or should have given the first."""
    begins: datetime = row["minute"]
    return max(row["beat_at"] or begins, begins)


def _is_silent(row: Row, now: datetime) -> bool:
    """Its job may be lost: asking for one that is there changes nothing."""
    return now - _heard(row) >= SILENT


def _is_over(row: Row, finish: timedelta, now: datetime) -> bool:
    ends: datetime = row["minute"] + MINUTE + finish
    return now >= ends + GIVEN_UP and now >= _heard(row) + GIVEN_UP


def _impossible(plan: Row) -> int:
    """Links that the plan could not place: those at the end of the week, or those of the day that comes first."""
    return max(int(plan["left_over"]), int(plan["missing"]))
