"""Who is forgotten is forgotten by traffic too, whatever is being written, and what is kept for a time goes after it."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

from backend.storage import traffic
from backend.storage.database import Database
from backend.storage.pruning import Pruning
from backend.storage.statements import Connection

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)
TODAY = (date(2026, 11, 22) - date(1970, 1, 1)).days
ANNA, BERTA = "a" * 22, "b" * 22
NOTHING: dict[str, list[dict[str, Any]]] = {"nodes": [], "sums": [], "failures": [], "seen": []}


def seen(*users: str, day: int = TODAY) -> dict[str, list[dict[str, Any]]]:
    return NOTHING | {"seen": [{"org_code": "A1MOABK001", "scheduled": False, "day": day, "users": list(users)}]}


async def add(database: Database, increments: dict[str, list[dict[str, Any]]], *, now: datetime = NOW) -> None:
    async def deed(connection: Connection) -> None:
        held = await traffic.held(connection)
        assert await traffic.add(connection, increments, position="p", version=held.version, now=now)

    await database.transaction(deed)


async def forget(database: Database, user_key: str, now: datetime = NOW) -> None:
    await database.transaction(lambda connection: traffic.forget(connection, user_key, now))


async def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.reading() as connection:
        return [tuple(row) for row in await connection.fetch(query)]


async def digests(database: Database) -> list[tuple[str, int]]:
    found = await rows(database, "SELECT user_key, day FROM traffic_users ORDER BY user_key, day")
    return [(key, (day - date(1970, 1, 1)).days - TODAY) for key, day in found]


async def test_a_digest_goes_and_the_number_of_users_stays(database: Database) -> None:
    await add(database, seen(ANNA, BERTA))
    await forget(database, ANNA)
    assert await digests(database) == [(BERTA, 0)]
    assert await rows(database, "SELECT users FROM traffic_days") == [(2,)]


async def test_a_late_report_brings_nobody_back_and_who_comes_back_counts_from_the_next_day(database: Database) -> None:
    await add(database, seen(ANNA))
    await forget(database, ANNA)
    await add(database, seen(ANNA, BERTA))
    await add(database, seen(ANNA, day=TODAY - 1))
    assert await digests(database) == [(BERTA, 0)]
    assert await rows(database, "SELECT users FROM traffic_days") == [(2,)]
    await add(database, seen(ANNA, day=TODAY + 1))
    assert await digests(database) == [(ANNA, 1), (BERTA, 0)]


async def test_just_before_midnight_in_korea_the_next_day_is_forgotten_too(database: Database) -> None:
    await forget(database, ANNA, datetime(2026, 11, 22, 14, 55, tzinfo=UTC))
    await add(database, seen(ANNA, day=TODAY + 1))
    assert await digests(database) == []
    await add(database, seen(ANNA, day=TODAY + 2))
    assert await digests(database) == [(ANNA, 2)]


async def test_a_write_that_waits_for_a_person_to_be_forgotten_changes_nothing(database: Database) -> None:
    """It looked before, so it does not know who is forgotten."""
    async with database.reading() as one, database.reading() as other:
        held = await traffic.held(one)
        erasing = other.transaction()
        await erasing.start()
        await traffic.forget(other, ANNA, NOW)
        writing = asyncio.create_task(traffic.add(one, seen(ANNA), position="p", version=held.version, now=NOW))
        await asyncio.sleep(0.05)
        assert not writing.done()
        await erasing.commit()
        assert not await writing
        assert (await traffic.held(one)).position == traffic.START
    assert await digests(database) == []


async def test_forgetting_waits_for_a_write_and_finds_what_it_wrote(database: Database) -> None:
    async with database.reading() as one, database.reading() as other:
        held = await traffic.held(one)
        writing = one.transaction()
        await writing.start()
        assert await traffic.add(one, seen(ANNA), position="p", version=held.version, now=NOW)
        erasing = asyncio.create_task(_forgotten(other))
        await asyncio.sleep(0.05)
        assert not erasing.done()
        await writing.commit()
        await erasing
    assert await digests(database) == []


async def _forgotten(connection: Connection) -> None:
    async with connection.transaction():
        await traffic.forget(connection, ANNA, NOW)


async def test_what_is_kept_for_a_time_goes_some_at_a_time(database: Database) -> None:
    node = {"node": "n", "counted": "{[1,1]}", "uncounted": 0}
    await add(database, NOTHING | {"nodes": [node]}, now=NOW)
    await add(database, NOTHING | {"nodes": [node | {"node": "silent"}]}, now=NOW - traffic.LATE - timedelta(seconds=1))
    for days in (0, traffic.USERS_KEPT.days, traffic.USERS_KEPT.days + 1):
        await add(database, seen(ANNA, BERTA, day=TODAY - days))
    sum_ = dict.fromkeys(("calls", "successes", "cancelled", "slow", "ms", "ms_squared"), 0)
    hours = [round((NOW - age).timestamp() * 1000) for age in (timedelta(0), traffic.SUMS_KEPT + timedelta(hours=1))]
    named = {"org_code": "A", "api_code": "B", "scheduled": False}
    sums = [named | sum_ | {"hour": hour, "histogram": [0]} for hour in hours]
    failures = [named | {"hour": hour, "reason": "reset", "calls": 1} for hour in hours]
    await add(database, NOTHING | {"sums": sums, "failures": failures})
    await forget(database, "c" * 22, NOW - timedelta(days=9))
    async with database.reading() as connection:
        deleted = [await traffic.forget_old(connection, NOW, limit=1) for _ in range(4)]
    assert deleted == [5, 1, 0, 0]
    assert await digests(database) == [(ANNA, -35), (ANNA, 0), (BERTA, -35), (BERTA, 0)]
    assert await rows(database, "SELECT node FROM traffic_nodes") == [("n",)]
    counts = [await rows(database, f"SELECT count(*) FROM {table}") for table in ("traffic", "traffic_failures", "traffic_forgotten")]
    assert counts == [[(1,)], [(1,)], [(0,)]]
    assert await rows(database, "SELECT count(*) FROM traffic_days") == [(3,)]


async def test_the_sweep_looks_once_an_hour(database: Database) -> None:
    sweep = Pruning("traffic", traffic.forget_old, database=database)
    old = {"node": "n", "counted": "{[1,1]}", "uncounted": 0}
    found = []
    for moment in (NOW, NOW + timedelta(minutes=59), NOW + timedelta(minutes=60)):
        await add(database, NOTHING | {"nodes": [old]}, now=NOW - timedelta(days=8))
        found.append(await sweep.prune(moment))
    assert found == [1, 0, 1]
