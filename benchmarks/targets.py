"""The page `targets`: pages of due links from PostgreSQL, the first, one in the middle and the last, by key and by counting.

In: rounds. Out: the time of one page of a second, as a command's sender reads it, and of finding the range of a minute, as the coordinator
does. Links are rows that nobody could be asked for: they are made by one statement.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backend.batch.commands import BEGINNING, Position
from backend.batch.terms import Terms
from backend.engines import erase_postgres, start_postgres
from backend.storage import batch_commands, batch_sends
from backend.storage.batch_due import Due
from backend.storage.database import Database
from backend.storage.migrations import migrate
from backend.storage.statements import Connection, statement
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant

LINKS, FEW = 5_000_000, 50_000  # in a quick run
AT_ONCE = 250_000  # links of one statement
BANK = "A1MOABK001"
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
SECOND, MINUTE = 47, 2_778  # links: a million in 360 minutes
TIMES = 40
PLACES = ("first", "middle", "last")
SUNDAY = date(2026, 11, 22)
PATIENCE = 300  # seconds for one statement
BY_KEY, BY_COUNTING = "by key", "by counting (OFFSET)"

_USERS = statement(
    "INSERT INTO users (user_id, created_at) SELECT 'u-' || number, :now FROM generate_series(CAST(:first AS int), :last) number"
)
_LINKS = statement(
    """
    INSERT INTO links (user_id, org_code, status, consent_tx_id, consent_ends_on, consented_at, scope, created_at, updated_at, due_on,
      last_refreshed_at)
    SELECT 'u-' || number, :org_code, 'active', 'c', DATE '2030-01-01', :now, '', :now, :now, DATE '2026-11-22' + number % 7,
      CAST(:now AS timestamptz) - interval '8 days'
    FROM generate_series(CAST(:first AS int), :last) number
    """
)
# What was tried already is looked up for each link.
_TRIED = statement(
    """
    INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
    SELECT user_id, org_code, DATE '2026-11-22', link_id, :now, 1, 1, 'failed', :now FROM links WHERE link_id % 10 = 0
    """
)
_COUNTED = statement(
    """
    SELECT due_on, link_id, user_id FROM links WHERE org_code = :org_code AND status = 'active'
    ORDER BY due_on, link_id LIMIT :size OFFSET :skipped
    """
)

Starts = dict[str, tuple[Position, int]]  # by name of the place: the position, and how many links lie before it


@dataclass
class Stage:
    """One provider with all its links, and where pages begin; made in the first round."""

    database: Database
    starts: Starts | None = None


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """PostgreSQL as `moa up` runs it."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    postgres = await asyncio.to_thread(start_postgres, folder)
    try:
        await migrate(postgres.url)
        database = Database(postgres.url, pool=1)
        try:
            yield Stage(database)
        finally:
            await database.close()
    finally:
        await asyncio.to_thread(postgres.stop)
        erase_postgres(folder)
        shutil.rmtree(folder, ignore_errors=True)


async def _fill(database: Database, links: int) -> None:
    for first in range(1, links + 1, AT_ONCE):
        values = {"first": first, "last": min(first + AT_ONCE - 1, links), "now": NOW, "org_code": BANK}
        async with database.reading() as connection:
            for each in (_USERS, _LINKS):
                await connection.execute(each.sql, *each._in_order(values), timeout=PATIENCE)
    async with database.reading() as connection:
        await connection.execute(_TRIED.sql, NOW, timeout=PATIENCE)
        await connection.execute("VACUUM ANALYZE", timeout=PATIENCE)


def _starts(links: int) -> Starts:
    """A seventh of the links is due on each day, in the order of their numbers. Two minutes of them are behind the last place."""
    tail = 7 * 2 * MINUTE
    return {
        "first": (BEGINNING, 0),
        "middle": (Position(SUNDAY + timedelta(days=3), links // 2), links // 2),
        "last": (Position(SUNDAY + timedelta(days=6), links - tail), links - tail // 7),
    }


Page = Callable[[Connection, Due, Position, int, int], Awaitable[object]]  # behind a position or so many links, so many


async def _by_key(connection: Connection, due: Due, at: Position, _skipped: int, size: int) -> object:
    limit = {"limit_due": date(2026, 11, 28), "limit_link": LINKS}
    between = {"at_due": at.due_on, "at_link": at.link_id, **limit}
    return await batch_sends.page(connection, BANK, due, between, size)


async def _by_counting(connection: Connection, _due: Due, _at: Position, skipped: int, size: int) -> object:
    values = {"org_code": BANK, "skipped": skipped, "size": size}
    return await connection.fetch(_COUNTED.sql, *_COUNTED._in_order(values), timeout=PATIENCE)


async def _range(connection: Connection, due: Due, at: Position, _skipped: int, _size: int) -> object:
    return await batch_commands.find_range(connection, BANK, due, (at.due_on, at.link_id), MINUTE)


def _variant(name: str, about: str, page: Page, times: int, *, finds: bool) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        if on.starts is None:
            links = LINKS if each.plan.rounds > 1 else FEW
            await _fill(on.database, links)
            on.starts = _starts(links)
        due, busy = Terms().due_at(NOW), machine_ms()
        found: dict[str, list[float]] = {}
        async with on.database.reading() as connection:
            for place, (at, skipped) in on.starts.items():
                found[place] = await _timed(lambda: page(connection, due, at, skipped, SECOND), times)  # noqa: B023  # awaited here
                if finds:
                    found[f"{place}_range"] = await _timed(lambda: _range(connection, due, at, skipped, MINUTE), times)  # noqa: B023
        return {**found, "busy": busy_percent(busy, machine_ms())}

    return Variant(name=name, about=about, run=run)


async def _timed(deed: Callable[[], Awaitable[object]], times: int) -> list[float]:
    """Milliseconds of each; the one before them is not counted."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        await deed()
        taken.append(1_000 * (time.perf_counter() - began))
    return taken[1:]


_PAGES, _RANGES = "A page of a second", "The range of a minute"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="targets",
    title="Pages of due links",
    about=(
        f"Is the last page of a provider's links as cheap as the first? {LINKS:,} links of one provider lie in PostgreSQL, due on seven "
        f"days, and a tenth of them was tried this week already. A page is what leaves in a second when a million links leave in 360 "
        f"minutes ({SECOND}), a range what leaves in a minute ({MINUTE:,}). Whether a link is still due is asked for each of them.",
        "The figures are times of statements as the sender and the coordinator make them, on one connection, by the wall clock.",
    ),
    stage=stage,
    variants=(
        _variant(BY_KEY, "behind a position (due_on, link_id), as commands have it.", _by_key, TIMES, finds=True),
        _variant(
            BY_COUNTING, "so many of them left out; in its favour, whether they were tried is not asked.", _by_counting, 2, finds=False
        ),
    ),
    tables=(
        Table(
            title=_PAGES,
            columns=(*(Column(place, place, Statistic.P50, "ms") for place in PLACES), Column("machine busy", "busy", Statistic.MEAN, "%")),
        ),
        Table(
            title=_RANGES,
            columns=tuple(Column(place, f"{place}_range", Statistic.P50, "ms") for place in PLACES),
            variants=(BY_KEY,),
        ),
    ),
    aims=(Aim(variant=BY_KEY, table=_PAGES, column="last", most=5), Aim(variant=BY_KEY, table=_RANGES, column="last", most=100)),
    plan=Plan(rounds=3, seconds=0, warm_up=0, rate=0),
    quick=Plan(rounds=1, seconds=0, warm_up=0, rate=0),
)
