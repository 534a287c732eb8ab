"""The schema's history (alembic), forward only and expand-contract: the code of one version before must still run after each step.

`migrate` may be called by many processes at once; a PostgreSQL advisory lock lets one work while the others wait.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from backend.storage.database import open_engine

_LOCK = 0x6D6F61_01  # "moa", purpose 1: migrations


async def migrate(database_url: str) -> None:
    """Brings the schema to the newest version. Raises `EngineUnavailable` when PostgreSQL does not answer."""
    engine = open_engine(database_url, pool=1)
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


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
