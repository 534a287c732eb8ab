"""Where PostgreSQL's trouble becomes ours: away, busy, asked to repeat, refused."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from backend.errors import EngineUnavailable
from backend.storage import database as module
from backend.storage.database import Database
from backend.storage.statements import Connection
from tests.faults.gates import gate

ENTER = "INSERT INTO users (user_id, created_at) VALUES ($1, now())"


async def test_nobody_listening_is_an_engine_that_is_away() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", pool=1)
    with pytest.raises(EngineUnavailable, match="engine_unavailable") as refused:
        await database.ping()
    assert refused.value.engine == "PostgreSQL"
    await database.close()


async def test_a_connection_that_is_cut_is_an_engine_that_is_away_and_the_next_one_works(database: Database) -> None:
    async def is_cut(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(EngineUnavailable):
        await database.transaction(is_cut)
    await database.ping()


@pytest.mark.parametrize("fault", [asyncpg.InterfaceError, asyncpg.InternalClientError])
async def test_a_connection_whose_protocol_broke_is_not_used_again(shared_url: str, fault: type[Exception]) -> None:
    """Seen of the second kind: PostgreSQL was killed between two steps, and the driver could not begin the next."""
    database = Database(shared_url, pool=1)
    used: list[int] = []

    async def breaks(connection: Connection) -> None:
        used.append(await connection.fetchval("SELECT pg_backend_pid()"))
        raise fault("cannot switch to state 15; another operation (2) is in progress")

    with pytest.raises(EngineUnavailable):
        await database.single(breaks)
    async with database.reading() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") not in used
    await database.close()


async def test_a_pool_without_a_free_connection_says_come_back(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_SECONDS", 0.05)
    database = Database(shared_url, pool=1)
    async with database.reading():
        with pytest.raises(EngineUnavailable):
            await database.ping()
    await database.close()


async def test_a_start_does_not_wait_for_a_postgresql_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARM_SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        database = Database(f"postgresql://nobody@127.0.0.1:{port}/none?sslmode=disable", pool=3)
        async with asyncio.timeout(2):
            with pytest.raises(EngineUnavailable):
                await database.warm()
        await database.close()


async def test_a_start_that_finds_too_few_connections_keeps_none_for_itself(shared_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL_SECONDS", 0.5)
    database = Database(shared_url, pool=3)
    real, calls = module._speak_json, itertools.count()

    async def one_is_refused(connection: Connection) -> None:
        if not next(calls):
            raise asyncpg.CannotConnectNowError("the database system is starting up")
        await asyncio.sleep(0.05)  # the others come later
        await real(connection)

    monkeypatch.setattr(module, "_speak_json", one_is_refused)
    with pytest.raises(EngineUnavailable):
        await database.warm()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(database.reading())
    await database.close()


async def test_who_gives_up_a_transaction_does_not_wait_for_a_postgresql_that_says_nothing(shared_url: str) -> None:
    """Seen: it waited for its ROLLBACK for fifteen seconds, held its connection meanwhile, and came back as if nobody had called it off."""
    parts = urlsplit(shared_url)
    async with gate(Path(parts.query.removeprefix("host=")) / ".s.PGSQL.5432") as door:
        database = Database(f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{door.port}{parts.path}", pool=1)
        asked = asyncio.Event()

        async def deed(connection: Connection) -> None:
            await connection.execute("SELECT 1")
            door.silence()
            asked.set()
            await connection.execute("SELECT 2")

        for patience in (None, 0.05):  # called off from outside; or by a deadline of its own
            task = asyncio.create_task(asyncio.wait_for(database.transaction(deed), patience))
            await asked.wait()
            await asyncio.sleep(0.01)
            if patience is None:
                task.cancel()
            await asyncio.wait({task}, timeout=2)
            assert task.done()
            assert task.cancelled() if patience is None else isinstance(task.exception(), TimeoutError)
            door.heal()
            async with asyncio.timeout(2):
                await database.ping()
            asked.clear()
        await database.close()


async def test_a_cancellation_is_not_lost_when_the_connection_has_ended_before(shared_url: str) -> None:
    database = Database(shared_url, pool=1)

    async def ends(connection: Connection) -> None:
        connection.terminate()
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await database.single(ends)
    await database.ping()
    await database.close()


async def test_what_was_called_off_ends_at_postgresql_too_and_keeps_no_place_there(database: Database, shared_url: str) -> None:
    # Six who wait for one locked person and give up, with a pool of eight: nobody of them is left, though the lock is still held.
    holder, onlooker = await asyncpg.connect(shared_url), await asyncpg.connect(shared_url)
    await holder.execute(ENTER, "anna")
    lock = holder.transaction()
    await lock.start()
    await holder.execute("UPDATE users SET feed_offset = 1")

    async def waits(connection: Connection) -> None:
        await connection.execute("UPDATE users SET feed_offset = 2")

    waiting = [asyncio.create_task(database.single(waits)) for _ in range(6)]
    async with asyncio.timeout(5):
        await _until_waiting(onlooker, 6)
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    async with asyncio.timeout(5):
        await _until_waiting(onlooker, 0)
    await lock.rollback()
    assert await holder.fetchval("SELECT feed_offset FROM users") == 0
    await holder.close()
    await onlooker.close()


async def _until_waiting(connection: asyncpg.Connection, count: int) -> None:
    while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moa' AND state = 'active'") != count:
        await asyncio.sleep(0.05)


async def test_a_transaction_is_repeated_when_postgresql_asks_for_it(database: Database) -> None:
    tries = 0

    async def deed(connection: Connection) -> str:
        nonlocal tries
        tries += 1
        await connection.execute(ENTER, "anna")
        if tries < 3:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
        return "done"

    assert await database.transaction(deed) == "done"
    assert tries == 3


async def test_a_transaction_that_never_succeeds_is_given_up(database: Database) -> None:
    tries = 0

    async def deed(connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40P01'; END $$")

    with pytest.raises(asyncpg.DeadlockDetectedError):
        await database.transaction(deed)
    assert tries == 3


async def test_two_transactions_that_block_each_other_both_succeed(database: Database) -> None:
    for user_id in ("anna", "berta"):
        await database.transaction(lambda connection, user_id=user_id: connection.execute(ENTER, user_id))
    lock = "SELECT 1 FROM users WHERE user_id = $1 FOR UPDATE"
    both_hold_one = asyncio.Barrier(2)

    async def locks(first: str, second: str) -> None:
        tries = 0

        async def deed(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute("SET LOCAL deadlock_timeout = '20ms'")
            await connection.execute(lock, first)
            if tries == 1:
                await both_hold_one.wait()
            await connection.execute(lock, second)

        await database.transaction(deed)

    await asyncio.gather(locks("anna", "berta"), locks("berta", "anna"))


async def test_a_fault_of_our_own_stays_what_it_is_and_shows_no_value(database: Database) -> None:
    async def deed(connection: Connection) -> None:
        for _ in range(2):
            await connection.execute(ENTER, "anna, whose name is nobody's business")

    with pytest.raises(asyncpg.UniqueViolationError) as failed:
        await database.transaction(deed)
    assert "nobody's business" not in str(failed.value).partition("DETAIL")[0]
    with pytest.raises(asyncpg.UndefinedTableError) as refused:
        await database.transaction(lambda connection: connection.execute("SELECT CAST($1 AS text) FROM nowhere", "very private"))
    assert "very private" not in str(refused.value)


async def test_a_value_that_does_not_fit_its_parameter_is_our_fault_and_is_not_shown(database: Database) -> None:
    with pytest.raises(ValueError, match=r"\$1") as refused:
        await database.transaction(lambda connection: connection.execute("SELECT CAST($1 AS integer)", "very private"))
    assert "very private" not in str(refused.value)
    assert refused.value.__suppress_context__
