"""Reports, the sums that they should give, and the sums that PostgreSQL has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from msgspec import Struct

from backend.clock import ManualClock
from backend.coordinator.stream import OLDEST, Stream
from backend.providers.circuits import Report
from backend.providers.traffic import Rollup, Tally, merged
from backend.reporting.recording import Recording
from backend.storage.database import Database

BANK, CARD = "A1MOABK001", "B1MOACD001"
NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)  # half past noon in Korea
NOW_MS = int(NOW.timestamp() * 1000)
TODAY = date(2026, 11, 22)
EPOCH = date(1970, 1, 1)
CLOCK = ManualClock(NOW)


class Call(Struct, frozen=True, kw_only=True):
    """One ended call, as a node adds it up."""

    org_code: str = BANK
    api_code: str = "BA01"
    scheduled: bool = False
    began_ms: int = NOW_MS
    user: str | None = None
    took_ms: int = 20
    reason: str | None = None
    slow: bool = False
    cancelled: bool = False


def report(node: str, number: int, *calls: Call, uncounted: int = 0) -> Report:
    """What a node tells of these calls."""
    tally = Tally()
    for call in calls:
        named = (call.org_code, call.api_code, call.scheduled, call.began_ms, call.user)
        if call.cancelled:
            tally.add_cancelled(*named)
        else:
            tally.add(*named, call.took_ms, call.reason, call.slow)
    rollups, seen, _ = tally.taken()
    return Report(node=node, number=number, calls=(), rollups=rollups, seen=seen, uncounted=uncounted)


def rolled(reports: Iterable[Report]) -> dict[tuple[str, str, bool, int], Rollup]:
    """What each of these reports once gives."""
    return merged(rollup for each in {(one.node, one.number): one for one in reports}.values() for rollup in each.rollups)


def named(reports: Iterable[Report]) -> dict[tuple[str, bool, int], int]:
    """How many users they name, by institution, asker and day."""
    users: dict[tuple[str, bool, int], set[str]] = {}
    for seen in (seen for each in reports for seen in each.seen):
        users.setdefault((seen.org_code, seen.scheduled, seen.day), set()).update(seen.users)
    return {key: len(each) for key, each in users.items()}


async def sums(database: Database) -> dict[tuple[str, str, bool, int], Rollup]:
    """The sums, as roll-ups."""
    async with database.reading() as connection:
        rows = await connection.fetch("SELECT * FROM traffic")
        failures = await connection.fetch("SELECT * FROM traffic_failures")
    reasons: dict[tuple[Any, ...], Counter[str]] = {}
    for row in failures:
        key = (row["org_code"], row["api_code"], row["scheduled"], row["hour"])
        reasons.setdefault(key, Counter())[row["reason"]] = row["calls"]
    found = {}
    for row in rows:
        plain = dict(row)
        key = (plain["org_code"], plain["api_code"], plain["scheduled"], plain["hour"])
        plain |= {"hour": round(plain["hour"].timestamp() * 1000), "histogram": tuple(plain["histogram"])}
        found[*key[:3], plain["hour"]] = Rollup(**plain, failures=dict(reasons.get(key, {})))
    return found


async def users(database: Database) -> dict[tuple[str, bool, int], int]:
    """How many users, by institution, asker and day; by the kept number, which is also how many digests there are."""
    async with database.reading() as connection:
        kept = await connection.fetch("SELECT org_code, scheduled, day, users FROM traffic_days")
        digests = await connection.fetch("SELECT org_code, scheduled, day, count(*) AS users FROM traffic_users GROUP BY 1, 2, 3")
    counted, there = ({(*row.values(),)[:3]: row["users"] for row in rows} for rows in (kept, digests))
    assert counted == there
    return {(org_code, scheduled, (day - EPOCH).days): users for (org_code, scheduled, day), users in counted.items()}


def recording(stream: Any, database: Database, clock: ManualClock | None = None) -> Recording:
    return Recording(stream=stream, database=database, clock=clock or ManualClock(NOW), oldest=OLDEST)


async def tell(stream: Stream, *reports: Report) -> None:
    for each in reports:
        await stream.append(each)


async def everything(recorder: Recording) -> None:
    """Until nothing is left to read."""
    while await recorder.record():
        pass
