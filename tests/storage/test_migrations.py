"""The migrations make exactly the tables that the code knows, however many processes migrate at once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from backend.storage import migrations
from backend.storage.database import COMMAND_SECONDS
from backend.storage.migrations import LOCK, migrate, open_engine
from backend.storage.schema import metadata

COLUMNS = """
    SELECT table_name, column_name, ordinal_position, data_type, udt_name, is_nullable, column_default, character_maximum_length
    FROM information_schema.columns WHERE table_schema = 'public'
"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""


def _drawn(connection: Connection) -> dict[str, set[tuple[object, ...]]]:
    """What PostgreSQL says of every table but alembic's own."""
    questions = {"columns": COLUMNS, "indexes": INDEXES, "constraints": CONSTRAINTS}
    return {
        name: {tuple(row) for row in connection.execute(text(question)) if row[0] != "alembic_version"}
        for name, question in questions.items()
    }


async def test_migrating_makes_the_tables_that_the_code_knows(database_url: str, empty_database_url: str) -> None:
    migrated, made = open_engine(database_url), open_engine(empty_database_url)
    async with migrated.connect() as connection:
        differences = await connection.run_sync(lambda sync: compare_metadata(MigrationContext.configure(sync), metadata))
        of_migrations = await connection.run_sync(_drawn)
    async with made.begin() as connection:
        await connection.run_sync(metadata.create_all)
        of_tables = await connection.run_sync(_drawn)
    await migrated.dispose()
    await made.dispose()
    assert differences == []
    assert {name: len(found) > 5 for name, found in of_tables.items()} == dict.fromkeys(of_tables, True)
    for name, found in of_tables.items():
        assert of_migrations[name] == found


async def test_two_migrations_at_once_do_the_work_once(empty_database_url: str) -> None:
    await asyncio.gather(*(migrate(empty_database_url) for _ in range(3)))
    await migrate(empty_database_url)
    engine = open_engine(empty_database_url)
    async with engine.connect() as connection:
        assert list((await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars()) == ["0015"]
        locks = await connection.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
        assert locks.scalar_one() == 0, "the lock is given back"
    await engine.dispose()


async def test_indexes_of_the_history_are_made_beside_those_who_write(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    add = "INSERT INTO consent_history (user_id, org_code, tx_id, happened, at) VALUES ($1, 'A', 'tx', 'granted', now())"
    before, beside = await asyncpg.connect(empty_database_url), await asyncpg.connect(empty_database_url)
    await before.execute("DROP TABLE consent_days, consent_days_done; UPDATE alembic_version SET version_num = '0014'")
    writing = before.transaction()
    await writing.start()
    await before.execute(add, "anna")
    migrating = asyncio.create_task(migrate(empty_database_url))
    async with asyncio.timeout(20):
        while not await beside.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # it waits for whoever began before it
            await asyncio.sleep(0.01)
    await beside.execute(add, "bert", timeout=5)
    assert not migrating.done()
    await writing.commit()
    await migrating
    valid = "SELECT count(*) FROM pg_index WHERE indrelid = 'consent_history'::regclass AND indisvalid"
    assert (await beside.fetchval(valid), await beside.fetchval("SELECT count(*) FROM consent_days")) == (4, 0)
    await before.close()
    await beside.close()


async def test_whoever_reads_a_table_that_a_step_waits_for_is_kept_for_a_moment_only(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "TABLE_SECONDS", 0.3)
    await migrate(empty_database_url)
    holding, reading = await asyncpg.connect(empty_database_url), await asyncpg.connect(empty_database_url)
    await holding.execute(
        "DROP TABLE consent_days, consent_days_done; UPDATE alembic_version SET version_num = '0013';"
        "ALTER TABLE batch_pauses DROP reason, DROP until; ALTER TABLE batch_commands DROP eased"
    )
    held = holding.transaction()
    await held.start()
    await holding.execute("SELECT FROM batch_pauses")
    migrating = asyncio.create_task(migrate(empty_database_url))
    async with asyncio.timeout(20):
        while not await reading.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'batch_pauses'::regclass"):
            await asyncio.sleep(0.01)
    await reading.execute("SELECT FROM batch_pauses", timeout=5)  # who holds the table still does
    assert not migrating.done()
    await held.commit()
    await migrating
    assert await reading.fetchval("SELECT count(until) FROM batch_pauses") == 0
    await holding.close()
    await reading.close()


@pytest.mark.long
async def test_who_migrates_waits_for_another_however_long_it_takes(empty_database_url: str) -> None:
    other = await asyncpg.connect(empty_database_url)
    await other.execute("SELECT pg_advisory_lock($1)", LOCK)
    migrating = asyncio.create_task(migrate(empty_database_url))
    await asyncio.wait({migrating}, timeout=COMMAND_SECONDS + 2)  # the time of a statement elsewhere: PostgreSQL's clock cannot be moved
    assert not migrating.done()
    await other.close()
    await migrating


def test_a_users_tables_lead_their_keys_with_the_user() -> None:
    of_nobody = {"consent_history", "consent_days", "consent_days_done", "webhooks"}  # append-only, outlives the user; the operators' own
    of_nobody |= {"circuit_modes", "operator_actions", "provider_statuses", "circuit_decisions"}  # about institutions
    of_nobody |= {"shared_feeds", "alerts", "notices"}
    of_nobody |= {"batch_plans", "batch_days", "batch_windows", "batch_pauses", "batch_commands"}  # about institutions, too
    of_nobody |= {name for name in metadata.tables if name.startswith("traffic")}  # sums; digests of users, led by them
    assert {table.name for table in metadata.sorted_tables if next(iter(table.primary_key.columns)).name != "user_id"} == of_nobody
