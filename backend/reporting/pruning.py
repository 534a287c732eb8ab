"""What traffic keeps for a time only: digests of users, numbers of reports, who is forgotten, old sums.

In: the moment. Out: rows that are too old (`storage.traffic` says when) are gone, some at a time.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.storage import traffic
from backend.storage.database import Database

EVERY = timedelta(hours=1)
MOST = 10_000  # rows of a table in one sweep; where there were as many, the next sweep goes on


class TrafficSweep:
    """Deletes what is too old."""

    name = "traffic"

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._due: datetime | None = None  # None: at once

    async def sweep(self, now: datetime) -> int:
        """How many rows went."""
        if self._due is not None and now < self._due:
            return 0
        async with self._database.reading() as connection:
            deleted = await traffic.forget_old(connection, now, limit=MOST)
        self._due = None if deleted >= MOST else now + EVERY
        return deleted
