"""Where PostgreSQL's trouble becomes ours: away, busy, asked to repeat, refused."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.errors import EngineUnavailable
from backend.storage import database as module
from backend.storage.database import Database, open_engine

ENTER = text("INSERT INTO users (user_id, created_at) VALUES (:user_id, now())")


async def test_nobody_listening_is_an_engine_that_is_away() -> None:
    database = Database(engine=open_engine("postgresql://nobody@127.0.0.1:1/none", pool=1))
    with pytest.raises(EngineUnavailable, match="engine_unavailable") as refused:
        await database.ping()
    assert refused.value.engine == "PostgreSQL"
    await database.close()


async def test_a_connection_that_is_cut_is_an_engine_that_is_away_and_the_next_one_works(database: Database) -> None:
    async def is_cut(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(EngineUnavailable):
        await database.transaction(is_cut)
    await database.ping()


async def test_a_pool_without_a_free_connection_says_come_back(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_SECONDS", 0.05)
    database = Database(engine=open_engine(shared_url, pool=1))
    async with database.reading():
        with pytest.raises(EngineUnavailable):
            await database.ping()
    await database.close()


async def test_a_transaction_is_repeated_when_postgresql_asks_for_it(database: Database) -> None:
    tries = 0

    async def deed(connection: AsyncConnection) -> str:
        nonlocal tries
        tries += 1
        await connection.execute(ENTER, {"user_id": "anna"})
        if tries < 3:
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))
        return "done"

    assert await database.transaction(deed) == "done"
    assert tries == 3


async def test_a_transaction_that_never_succeeds_is_given_up(database: Database) -> None:
    tries = 0

    async def deed(connection: AsyncConnection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$"))

    with pytest.raises(DBAPIError):
        await database.transaction(deed)
    assert tries == 3


async def test_two_transactions_that_block_each_other_both_succeed(database: Database) -> None:
    for user_id in ("anna", "berta"):
        await database.transaction(lambda connection, user_id=user_id: connection.execute(ENTER, {"user_id": user_id}))
    lock = text("SELECT 1 FROM users WHERE user_id = :user_id FOR UPDATE")
    both_hold_one = asyncio.Barrier(2)

    async def locks(first: str, second: str) -> None:
        tries = 0

        async def deed(connection: AsyncConnection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            await connection.execute(lock, {"user_id": first})
            if tries == 1:
                await both_hold_one.wait()
            await connection.execute(lock, {"user_id": second})

        await database.transaction(deed)

    await asyncio.gather(locks("anna", "berta"), locks("berta", "anna"))


async def test_a_fault_of_our_own_stays_what_it_is_and_shows_no_value(database: Database) -> None:
    async def deed(connection: AsyncConnection) -> None:
        for _ in range(2):
            await connection.execute(ENTER, {"user_id": "anna, whose name is nobody's business"})

    with pytest.raises(IntegrityError) as failed:
        await database.transaction(deed)
    assert "nobody's business" not in str(failed.value).partition("DETAIL")[0]
    with pytest.raises(DBAPIError) as refused:
        await database.transaction(
            lambda connection: connection.execute(text("SELECT CAST(:name AS text) FROM nowhere"), {"name": "very private"})
        )
    assert "very private" not in str(refused.value)
