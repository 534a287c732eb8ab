"""What the batch writes of a link: once, whoever comes with it, and never by a run that was overtaken."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backend.events import Asset, AssetKind, AssetRefreshed, Industry
from backend.storage import batch_commands, batch_sends
from backend.storage.batch_due import Due
from backend.storage.batch_sends import Counts, Done, Ended, Run, State
from backend.storage.database import Database
from backend.storage.tables import links
from tests.storage.given import entered, insert

ORG = "A1MOABK001"
WEEK, SATURDAY, NEXT = date(2026, 11, 22), date(2026, 11, 28), date(2026, 12, 5)
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
DUE = Due(week=WEEK, due_by=SATURDAY, attempts=3, unknown_attempts=2)


async def linked(database: Database, *users: str) -> None:
    async with database.reading() as connection:
        for user in users:
            await entered(connection, user, NOW)
        common = {"org_code": ORG, "status": "active", "consent_tx_id": "tx-1", "consent_ends_on": date(2027, 1, 1), "consented_at": NOW}
        times = {"scope": "bank.list", "created_at": NOW, "updated_at": NOW}
        await insert(connection, links, [{"user_id": user, **common, **times} for user in users])


async def begun(database: Database) -> Run:
    """A run of the one command; a new one each time."""
    async with database.reading() as connection:
        if not await connection.fetchval("SELECT count(*) FROM batch_commands"):
            place = {"start_due": date(2000, 1, 1), "start_link": 0, "limit_due": SATURDAY, "limit_link": 2**62}
            pace = {"size": 10, "per_tenth": 1, "per_minute": 600, "now": NOW}
            await batch_commands.make(connection, {"org_code": ORG, "minute": NOW, "week": WEEK, "day": WEEK, **place, **pace})
        found = await batch_sends.begin(connection, ORG, NOW, NOW)
        assert found is not None
        return Run(ORG, NOW, found["run"])


async def meant(database: Database, run: Run, *users: str) -> list[str]:
    """Whose links this run may read now."""
    async with database.reading() as connection:
        return [row["user_id"] for row in await batch_sends.intend(connection, run, DUE, users, NOW)]


def done(user: str) -> Done:
    return Done(user_id=user, org_code=ORG, week=WEEK, consent_tx_id="tx-1", search_timestamps={"BA01": "2026"}, due_on=NEXT)


async def recorded(database: Database, user: str) -> bool:
    async with database.reading() as connection:
        return bool(await batch_sends.record(connection, [done(user)], NOW))


async def told(database: Database, user: str) -> int:
    """Records with news, as a worker does that has looked just before. Returns how many facts were told."""
    asset = Asset(
        id="ast_1", org_code=ORG, industry=Industry.BANK, kind=AssetKind.DEPOSIT, name="n", number_masked="", status="active",
        balance=None, as_of="2026-11-25T00:00:00.000Z", details={},
    )  # fmt: skip
    events = [AssetRefreshed(at=NOW, org_code=ORG, assets=(asset,)).event()]
    async with database.reading() as connection:
        return len(await batch_sends.record_news(connection, done(user), since=0, changed=[asset], events=events, now=NOW))


async def value(database: Database, sql: str) -> Any:
    async with database.reading() as connection:
        return await connection.fetchval(sql)


async def test_a_link_is_meant_once_and_recorded_once(database: Database) -> None:
    await linked(database, "anna")
    run = await begun(database)
    assert await meant(database, run, "anna", "anna", "nobody") == ["anna"]
    assert await meant(database, run, "anna") == [], "it is on its way"
    assert await recorded(database, "anna")
    assert not await recorded(database, "anna")
    assert await told(database, "anna") == 0
    assert await value(database, "SELECT due_on FROM links") == NEXT
    assert await value(database, "SELECT feed_offset FROM users") == 0


@pytest.mark.parametrize("ways", [(recorded, told), (told, told), (told, recorded), (recorded, recorded)])
async def test_of_those_who_come_at_once_with_one_link_one_records_it(database: Database, ways: tuple[Any, Any]) -> None:
    for user in (f"user-{number}" for number in range(8)):
        await linked(database, user)
        await meant(database, await begun(database), user)
        assert [bool(each) for each in await asyncio.gather(*(way(database, user) for way in ways))].count(True) == 1
    facts = await value(database, "SELECT count(*) FROM outbox")
    assert facts == await value(database, "SELECT sum(feed_offset) FROM users"), "no offset is without its fact"
    assert facts == await value(database, "SELECT count(*) FROM assets")


async def test_a_run_that_was_overtaken_means_nothing_and_says_nothing(database: Database) -> None:
    await linked(database, "anna", "berta")
    old = await begun(database)
    assert await meant(database, old, "anna") == ["anna"]
    new = await begun(database)
    async with database.reading() as connection:
        assert await batch_sends.furthest(connection, new) is not None
        assert await batch_sends.lose(connection, new, due_on=NEXT, unknown_attempts=2, now=NOW) == 1
        assert await meant(database, old, "berta") == []
        assert await batch_sends.beat(connection, old, (WEEK, 1), Counts(sent=5), NOW) is None
        await batch_sends.end(connection, old, NOW)
        assert await batch_sends.beat(connection, new, (WEEK, 1), Counts(), NOW) is False
    assert await value(database, "SELECT sent FROM batch_commands") == 0
    assert await value(database, "SELECT state FROM batch_commands") == "running"
    assert await recorded(database, "anna"), "but what it has read is not read again"


async def test_what_a_failure_says_gives_way_to_what_is_known_better(database: Database) -> None:
    await linked(database, "anna")
    run = await begun(database)
    await meant(database, run, "anna")
    ended = Ended(
        user_id="anna", org_code=ORG, week=WEEK, minute=NOW, run=run.run, attempt=1, state=State.FAILED, error_code="x", counted=True,
        due_on=None,
    )  # fmt: skip
    await recorded(database, "anna")
    async with database.reading() as connection:
        await batch_sends.fail(connection, [ended], NOW)
    assert await value(database, "SELECT state FROM batch_refreshes") == "recorded"


async def test_who_is_being_written_is_passed_over_and_who_is_erased_gets_no_row(database: Database) -> None:
    await linked(database, "anna", "berta")
    run = await begun(database)

    async def while_locked(connection: Any) -> list[str]:
        await connection.execute("SELECT FROM users WHERE user_id = 'anna' FOR NO KEY UPDATE")
        async with asyncio.timeout(5):
            return await meant(database, run, "anna", "berta")

    assert await database.transaction(while_locked) == ["berta"]
    assert await meant(database, run, "anna") == ["anna"]


async def test_a_consent_that_was_given_anew_was_not_read(database: Database) -> None:
    await linked(database, "anna")
    await meant(database, await begun(database), "anna")
    await value(database, "UPDATE links SET consent_tx_id = 'tx-2' RETURNING 1")
    assert not await recorded(database, "anna")
    assert await told(database, "anna") == 0
    assert await value(database, "SELECT last_refreshed_at FROM links") is None


async def test_links_are_found_by_user_however_many_are_due(database: Database) -> None:
    """A plan, not a time: 20,000 links that are due, of which one is meant."""
    run = await begun(database)
    async with database.reading() as connection:
        await connection.execute(
            """
            INSERT INTO users (user_id, created_at) SELECT 'user-' || n, now() FROM generate_series(1, 20000) n;
            INSERT INTO links (user_id, org_code, status, consent_tx_id, consent_ends_on, consented_at, scope, created_at, updated_at)
            SELECT 'user-' || n, 'A1MOABK001', 'active', 'tx', '2027-01-01', now(), 's', now(), now() FROM generate_series(1, 20000) n;
            ANALYZE users; ANALYZE links;
            """
        )
        reads = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'links'"
        await connection.execute("SELECT pg_stat_force_next_flush()")
        before = await connection.fetchval(reads)
        await batch_sends.intend(connection, run, DUE, ["user-7", "user-11000"], NOW + timedelta(seconds=1))
        await connection.execute("SELECT pg_stat_force_next_flush()")
        assert await connection.fetchval(reads) - before < 100
