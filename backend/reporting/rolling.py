"""Adds up what became of consents, each finished day in Korea once, so that nobody who asks for a week has to read the whole history.

In: the moment. Out: rows of `consent_days`, day after day from the first of the history on, each in a transaction of its own. Rows that
come late, of a clock that was behind, are found within the hour, and their days added up anew. The leading coordinator runs it; two at
once do no harm.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import structlog

from backend.reporting.figures import day_of
from backend.storage import consent_days
from backend.storage.consent_days import Done, Noted
from backend.storage.database import Database
from backend.storage.statements import Connection

EVERY = timedelta(hours=1)  # looks for rows that came late
SETTLING = timedelta(minutes=5)  # after midnight: clocks differ a little
WAIT = timedelta(minutes=1)  # longer than any statement takes: a row has its number a moment before its transaction can be seen

log = structlog.get_logger()


class ConsentDays:
    """A sweep in two steps: what is the newest row, and, once nobody can write one before it any more, the days."""

    name = "consent_days"

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._noted: tuple[datetime, Noted] | None = None
        self._looked: tuple[datetime, date] | None = None  # when all was done, and the day that was running then

    async def sweep(self, now: datetime) -> int:
        """Always 0: nothing was lost. Raises `EngineUnavailable`."""
        running = day_of(now - SETTLING)
        if self._noted is None:
            if self._looked is None or running > self._looked[1] or now >= self._looked[0] + EVERY:
                async with self._database.reading() as connection:
                    self._noted = now, await consent_days.note(connection)
            return 0
        at, noted = self._noted
        if now < at + WAIT or not await self._settled(noted):
            return 0
        before = day_of(at - SETTLING)
        while (done := await self._one(noted, before)) is not None:
            if done.day is None:
                self._noted, self._looked = None, (at, before)
                return 0
        return 0  # another is at it

    async def _settled(self, noted: Noted) -> bool:
        async with self._database.reading() as connection:
            return await consent_days.settled(connection, noted)

    async def _one(self, noted: Noted, before: date) -> Done | None:
        async def deed(connection: Connection) -> Done | None:
            return await consent_days.add_up(connection, noted, before=before)

        done = await self._database.transaction(deed)
        if done is not None and done.again_from is not None:
            log.warning("consent_days.came_late", again_from=done.again_from.isoformat())
        return done
