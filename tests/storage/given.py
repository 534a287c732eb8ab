"""One database for many tests: copied once, emptied before each. A copy per test would cost more than most of the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import Table

from backend.storage.schema import metadata
from backend.storage.statements import Connection, Values, statement

EVERY_TABLE = ", ".join(table.name for table in metadata.sorted_tables)


@asynccontextmanager
async def copied(server_url: str, template: str, name: str) -> AsyncIterator[str]:
    """The URL of a copy of `template` that lives as long as the block."""
    await _run(server_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield urlsplit(server_url)._replace(path=f"/{name}").geturl()
    finally:
        await _run(server_url, f"DROP DATABASE {name} WITH (FORCE)")


async def empty(database_url: str) -> None:
    """Deletes every row of every table, also of those that refuse it to everybody but a superuser who insists."""
    await _run(database_url, f"SET session_replication_role = replica; TRUNCATE {EVERY_TABLE} RESTART IDENTITY")


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def entered(connection: Connection, user_id: str, now: datetime) -> None:
    """A user's row, if there is none."""
    await connection.execute("INSERT INTO users (user_id, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", user_id, now)


async def insert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Writes rows that all have the same columns."""
    names = list(rows[0])
    quoted = ", ".join(f'"{name}"' for name in names)
    await statement(f"INSERT INTO {table.name} ({quoted}) VALUES ({', '.join(f':{name}' for name in names)})").run_each(connection, rows)
