"""The schema's history (alembic), forward only and expand-contract: the code of one version before must still run after each step.

`migrate` may be called by many processes at once; a PostgreSQL advisory lock lets one work while the others wait. Each step is a
transaction, and waits for a table for a moment only: whoever comes after a waiting ALTER TABLE waits for it, too, readers among them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from backend.storage.database import CONNECT_SECONDS

LOCK = 0x6D6F61_01  # "moa", purpose 1: migrations
LOOK_SECONDS = 0.2  # between two looks whether another has done it
TABLE_SECONDS = 2.0  # that a step waits for a table, and everybody behind it
PAUSE_SECONDS = 1.0  # in which these get through

_LOCK_NOT_AVAILABLE = "55P03"

log = structlog.get_logger()


async def migrate(database_url: str) -> None:
    """Brings the schema to the newest version. Raises `EngineUnavailable` when PostgreSQL does not answer."""
    engine = open_engine(database_url)
    event.listen(engine.sync_engine, "begin", _waits_a_moment)
    try:
        async with engine.connect() as connection:
            await _locked(connection)
            try:
                await _upgraded(connection)
            finally:
                await connection.rollback()
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})
                await connection.commit()
    finally:
        await engine.dispose()


async def _locked(connection: AsyncConnection) -> None:
    """Asks for the lock until it has it.

    Who waited in one statement would hold up an index that is made beside writers, and that one waits for it: a deadlock.
    """
    while True:
        is_ours = (await connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK})).scalar_one()
        await connection.commit()
        if is_ours:
            return
        await asyncio.sleep(LOOK_SECONDS)


def _waits_a_moment(connection: Connection) -> None:
    """At the begin of a transaction: it alone, since an index that is made beside writers has to outwait all of them."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(TABLE_SECONDS * 1000)}")


async def _upgraded(connection: AsyncConnection) -> None:
    """Goes on from the last step that is there until none is left."""
    while True:
        try:
            await connection.run_sync(_upgrade)
            await connection.commit()
            return
        except DBAPIError as exc:
            if getattr(exc.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            await connection.rollback()
        log.warning("migration.waits", seconds=PAUSE_SECONDS, why="somebody's transaction holds a table that the next step changes")
        await asyncio.sleep(PAUSE_SECONDS)


def open_engine(database_url: str) -> AsyncEngine:
    """One connection for what speaks SQLAlchemy: alembic. asyncpg reads the URL, as it does for everybody else (`?sslmode=require`).

    A statement may take as long as it takes: to index a large table, or to wait for another who migrates.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database_url, timeout=CONNECT_SECONDS, server_settings={"application_name": "moa"})

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, pool_size=1, max_overflow=0, hide_parameters=True)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
