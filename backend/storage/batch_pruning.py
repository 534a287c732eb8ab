"""What is too old of the batch goes: what became of links first, of which there are most, then commands, plans and rehearsals."""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.clock import KST
from backend.storage.statements import Connection, Statement, statement

REFRESHES_KEPT = timedelta(days=35)  # the week that runs, and four before it
COMMANDS_KEPT = timedelta(days=105)  # fifteen weeks


def _older(table: str, column: str) -> Statement:
    old = f"ARRAY(SELECT ctid FROM {table} WHERE {column} < :before AND {column} > '-infinity' LIMIT :limit)"  # noqa: S608  # our own names
    return statement(f"DELETE FROM {table} WHERE ctid = ANY({old})")  # noqa: S608


_BY_WEEK = (
    (_older("batch_refreshes", "week"), REFRESHES_KEPT),
    *((_older(table, "week"), COMMANDS_KEPT) for table in ("batch_commands", "batch_days", "batch_plans")),
)
_WINDOWS = _older("batch_windows", "ends")


async def forget_old(connection: Connection, now: datetime, *, limit: int) -> int:
    """Deletes what is older than the times above, `limit` rows of a table at most; returns how many. Best outside of a transaction."""
    today = now.astimezone(KST).date()
    deleted = await _WINDOWS.run(connection, {"before": now - COMMANDS_KEPT, "limit": limit})
    for old, kept in _BY_WEEK:
        deleted += await old.run(connection, {"before": today - kept, "limit": limit})
    return deleted
