"""A person wants to be forgotten: every row and the feed go; what stays is the consent history.

In: a user. Out: their rows are gone after one transaction, their feed right after it (or by the sweep, if Valkey is away), and their tokens
end at the providers by jobs. Who listens is told by another epoch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import structlog

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.registration.accepting import After
from backend.registration.jobs import revoke_job
from backend.storage import erasing
from backend.storage.database import Database
from backend.storage.erasing import Erasure
from backend.storage.statements import Connection

IDLE = timedelta(seconds=2)  # a younger erasure is in somebody's hands
MOST = 200  # per sweep; the oldest first

EraseFeed = Callable[[str], Awaitable[None]]

log = structlog.get_logger()


class Forgetting:
    """Erases users. `afterwards` takes what may happen after the answer; it must not raise or block.

    `traffic_key`: how traffic names a user.
    """

    def __init__(
        self,
        *,
        database: Database,
        erase_feed: EraseFeed,
        traffic_key: Callable[[str], str],
        afterwards: Callable[[After], None],
        clock: Clock,
    ) -> None:
        self._database = database
        self._erase_feed = erase_feed
        self._traffic_key = traffic_key
        self._afterwards = afterwards
        self._clock = clock

    async def forget(self, user_id: str) -> None:
        """Erases this user. Nothing is left to be lost afterwards: what is still to be done stands in rows."""
        now = self._clock.now()

        async def deed(connection: Connection) -> list[str]:
            return await erasing.erase(connection, user_id, now, traffic_key=self._traffic_key(user_id))

        told = await self._database.transaction(deed)
        log.info("user.forgotten", links=len(told))
        self._afterwards(After(user_id, (), [revoke_job(user_id, org_code) for org_code in told]))
        try:
            await _erased(self._database, self._erase_feed, Erasure(user_id, now))
        except EngineUnavailable as exc:
            log.info("erasure.left_to_the_sweeper", engine=exc.engine)


class ErasureSweep:
    """Erases the feeds of users whose rows are gone."""

    name = "erasures"

    def __init__(self, *, database: Database, erase_feed: EraseFeed) -> None:
        self._database = database
        self._erase_feed = erase_feed

    async def sweep(self, now: datetime) -> int:
        """How many feeds were left."""
        async with self._database.reading() as connection:
            found = await erasing.left(connection, before=now - IDLE, limit=MOST)
        for erasure in found:
            await _erased(self._database, self._erase_feed, erasure)
        return len(found)


async def _erased(database: Database, erase_feed: EraseFeed, erasure: Erasure) -> None:
    await erase_feed(erasure.user_id)
    await database.transaction(lambda connection: erasing.done(connection, erasure))
