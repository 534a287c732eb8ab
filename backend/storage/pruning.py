"""Letting go of what is kept for a time only.

In: the moment, and a statement that knows what is too old (`traffic.forget_old`, `batch_pruning.forget_old`). Out: such rows are gone,
some at a time, looked for once an hour.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Protocol

from backend.storage.database import Database
from backend.storage.statements import Connection

EVERY = timedelta(hours=1)
MOST = 10_000  # rows of a table in one sweep; where there were as many, the next sweep goes on


class Forget(Protocol):
    """Deletes what is too old at `now`, `limit` rows of a table at most; returns how many."""

    def __call__(self, connection: Connection, now: datetime, *, limit: int) -> Awaitable[int]: ...


class Pruning:
    """Deletes what is too old. A `jobs.sweeper.Sweep`; what it deletes was no lost work."""

    def __init__(self, name: str, forget: Forget, *, database: Database) -> None:
        self.name = name
        self._forget = forget
        self._database = database
        self._due: datetime | None = None  # None: at once

    async def sweep(self, now: datetime) -> int:
        """See `prune`."""
        await self.prune(now)
        return 0

    async def prune(self, now: datetime) -> int:
        """How many rows went."""
        if self._due is not None and now < self._due:
            return 0
        async with self._database.reading() as connection:
            deleted = await self._forget(connection, now, limit=MOST)
        self._due = None if deleted >= MOST else now + EVERY
        return deleted
