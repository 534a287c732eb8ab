"""The schema's history (alembic), forward only and expand-contract: the code of one version before must still run after each step.

`migrate` may be called by many processes at once; a PostgreSQL advisory lock lets one work while the others wait.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from backend.storage.database import CONNECT_SECONDS

LOCK = 0x6D6F61_01  # "moa", purpose 1: migrations
LOOK_SECONDS = 0.2  # between two looks whether another has done it


async def migrate(database_url: str) -> None:
    """Brings the schema to the newest version. Raises `EngineUnavailable` when PostgreSQL does not answer."""
    engine = open_engine(database_url)
    try:
        async with engine.connect() as connection:
            await _locked(connection)
            try:
                await connection.run_sync(_upgrade)
                await connection.commit()
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
