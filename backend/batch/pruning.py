"""What the batch keeps for a time only: what became of links, commands, plans, rehearsals.

In: the moment. Out: rows that are too old (`storage.batch_pruning` says when) are gone, some at a time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.storage import batch_pruning
from backend.storage.database import Database

EVERY = timedelta(hours=1)
MOST = 10_000  # rows of a table in one sweep; where there were as many, the next sweep goes on


class BatchPruning:
    """Deletes what is too old. A `Sweep`; what it deletes was no lost work."""

    name = "batch_old"

    def __init__(self, *, database: Database) -> None:
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
            deleted = await batch_pruning.forget_old(connection, now, limit=MOST)
        self._due = None if deleted >= MOST else now + EVERY
        return deleted
