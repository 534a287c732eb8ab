"""The schema's history (alembic), forward only and expand-contract: the code of one version before must still run after each step.

`migrate` may be called by many processes at once; a PostgreSQL advisory lock lets one work while the others wait.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from backend.storage.database import COMMAND_SECONDS, CONNECT_SECONDS

_LOCK = 0x6D6F61_01  # "moa", purpose 1: migrations


async def migrate(database_url: str) -> None:
    """Brings the schema to the newest version. Raises `EngineUnavailable` when PostgreSQL does not answer."""
    engine = open_engine(database_url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            await connection.commit()
            try:
                await connection.run_sync(_upgrade)
                await connection.commit()
            finally:
                await connection.rollback()
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
                await connection.commit()
    finally:
        await engine.dispose()


def open_engine(database_url: str) -> AsyncEngine:
    """One connection for what speaks SQLAlchemy: alembic."""
    return create_async_engine(
        make_url(database_url).set(drivername="postgresql+asyncpg"),
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS, "server_settings": {"application_name": "moa"}},
    )


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
