"""The page `recording`: what it costs to add up a fleet's roll-ups in PostgreSQL; a second's reports at once, beside one by one.

In: rounds. Out: CPU of the writer and of PostgreSQL, and rows written, by the report. The reports are made before anything is measured.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from backend.clock import SystemClock
from backend.coordinator.stream import OLDEST, ValkeyStream
from backend.engines import erase_postgres, start_postgres, start_valkey
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, Report
from backend.providers.outcomes import Weight
from backend.providers.traffic import Tally
from backend.reporting.recording import Recording
from backend.storage.database import Database
from backend.storage.migrations import migrate
from benchmarks.costs import busy_percent, cpu_ms, machine_ms
from benchmarks.model import Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant

NODES, REPORTS_A_SECOND = 32, 10  # of each node; all with roll-ups, as long as they are few (`noticing.A_SUM`)
A_SECOND = 4_800  # calls of the fleet
INSTITUTIONS, APIS, USERS, ONE_FAILS_IN = 100, 12, 100_000, 50
_OURS, _ONE_BY_ONE = "a second at once", "one by one"
_ROWS = "SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0) FROM pg_stat_user_tables WHERE relname LIKE 'traffic%'"


@dataclass(frozen=True)
class Stage:
    """Both engines, and what marks PostgreSQL's processes."""

    database: Database
    valkey_url: str
    postgres: str


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """The embedded engines as `moa up` runs them, with every table."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    valkey, postgres = [await asyncio.to_thread(start, folder) for start in (start_valkey, start_postgres)]
    try:
        await migrate(postgres.url)
        database = Database(postgres.url, pool=1)  # whose one session also tells what it has written
        try:
            yield Stage(database, valkey.url, await asyncio.to_thread(_command, postgres.pid))
        finally:
            await database.close()
    finally:
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(valkey.stop)
        erase_postgres(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _command(pid: int) -> str:
    """Its command line, as `ps` prints it."""
    return subprocess.run(["ps", "-o", "args=", "-ww", "-p", str(pid)], capture_output=True, text=True, check=True).stdout.strip()


def _variant(name: str, about: str, at_once: int) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        seconds = _reports(Random(each.seed), f"{at_once}-{each.number}", round(each.plan.seconds))
        redis = connect(on.valkey_url, timeout=5, pool=5)
        try:
            return await _measured(on, ValkeyStream(redis), seconds, at_once)
        finally:
            await redis.aclose()

    return Variant(name=name, about=about, run=run)


async def _measured(on: Stage, stream: ValkeyStream, seconds: Sequence[Sequence[Report]], at_once: int) -> Samples:
    recording = Recording(stream=stream, database=on.database, clock=SystemClock(), oldest=OLDEST)
    marks, busy, rows = {"postgres": (on.postgres,)}, machine_ms(), await _written(on.database)
    writer = postgres = 0.0
    for reports in seconds:
        for first in range(0, len(reports), at_once):
            for report in reports[first : first + at_once]:
                await stream.append(report)
            theirs, ours = cpu_ms(marks) if first == 0 else {}, time.process_time()
            while await recording.record():
                pass
            writer += time.process_time() - ours
            postgres -= theirs.get("postgres", 0.0)
        postgres += cpu_ms(marks).get("postgres", 0.0)
    count = sum(map(len, seconds))
    return {
        "writer": [writer * 1e6 / count],
        "core": [writer * 100 / len(seconds)],
        "postgres": [postgres * 1e3 / count],
        "rows": [(await _written(on.database) - rows) / count],
        "busy": busy_percent(busy, machine_ms()),
    }


async def _written(database: Database) -> int:
    async with database.reading() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return int(await connection.fetchval(_ROWS))


def _reports(random: Random, fleet: str, seconds: int) -> list[list[Report]]:
    """What each second brings."""
    codes = [Circuit(f"A1MOABK{number:03d}", Scope.READ) for number in range(INSTITUTIONS)]
    now_ms, per_report = int(time.time() * 1000), A_SECOND // (NODES * REPORTS_A_SECOND)

    def report(node: int, number: int) -> Report:
        calls = tuple(CallEnded(random.choice(codes), 1, Weight.OK, 120, 20) for _ in range(per_report))
        tally = Tally()
        for _ in range(per_report):
            code, api, user = random.choice(codes).org_code, f"BA{random.randrange(APIS):02d}", f"{fleet:<8}{random.randrange(USERS):014d}"
            tally.add(code, api, False, now_ms, user, random.randrange(300), None if random.randrange(ONE_FAILS_IN) else "50001", False)
        rollups, seen, _ = tally.taken()
        return Report(node=f"{fleet}-{node}", number=number, calls=calls, rollups=rollups, seen=seen)

    numbers = (range(second * REPORTS_A_SECOND + 1, (second + 1) * REPORTS_A_SECOND + 1) for second in range(seconds))
    return [[report(node, number) for number in each for node in range(NODES)] for each in numbers]


BENCHMARK: Benchmark[Stage] = Benchmark(
    name="recording",
    title="Adding up the roll-ups of a fleet",
    about=(
        f"What does the leading coordinator pay for sums that are exact? {NODES} nodes make {A_SECOND:,} calls a second to {INSTITUTIONS} "
        f"institutions with {APIS} APIs each, for {USERS:,} users, one call in {ONE_FAILS_IN} failing, and each sends {REPORTS_A_SECOND} "
        "reports a second, each with its roll-ups. Nearly every call has another key or another user than the one before: a bad day.",
        "Measured is CPU, from the stream's reading to the commit; **rows** are inserted or updated: of sums, failures, users of "
        "the day, their numbers, nodes.",
    ),
    stage=stage,
    variants=(
        _variant(_OURS, "the reports of a second are added up, then written by one statement.", NODES * REPORTS_A_SECOND),
        _variant(_ONE_BY_ONE, "a statement for each report.", 1),
    ),
    tables=(
        Table(
            title="A thousand reports",
            columns=(
                Column("CPU of the writer", "writer", Statistic.MEAN, "ms"),
                Column("CPU of PostgreSQL", "postgres", Statistic.MEAN, "ms"),
                Column("rows of a report", "rows", Statistic.MEAN, ""),
                Column(f"of a core, at {A_SECOND:,} calls a second", "core", Statistic.MEAN, "%"),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
        ),
    ),
    plan=Plan(rounds=3, seconds=5.0, warm_up=0, rate=0),
    quick=Plan(rounds=1, seconds=1.0, warm_up=0, rate=0),
)
