"""Each morning at a set time, one message that compares today with the same weekday a week before.

In: the moment. Out: a row for each channel, once per day, whoever writes and however often it starts; `messenger.py` sends them. Without a
channel the message is a line of the log, once per day too. Whoever was not there at the set time writes the same message later, until
it is too late for a morning. The leading coordinator runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import structlog

from backend.reporting.comparing import Comparing
from backend.reporting.comparison import morning_hours
from backend.reporting.morning_text import Language, morning_text
from backend.storage import notices
from backend.storage.database import Database
from backend.storage.statements import Connection

LINE = "morning"
TOO_LATE = timedelta(hours=6)  # after the set time

log = structlog.get_logger()


class MorningSweep:
    """Writes the day's message when it is time."""

    name = "morning_message"

    def __init__(self, *, database: Database, comparing: Comparing, channels: Sequence[str], at: timedelta, language: Language) -> None:
        """`channels`: their ids; `at`: past midnight in Korea."""
        self._database = database
        self._comparing = comparing
        self._channels = channels
        self._at = at
        self._language = language
        self._written: date | None = None  # by this process, or found written

    async def sweep(self, now: datetime) -> int:
        """Always 0: nothing was lost. Raises `EngineUnavailable`."""
        day, until, goes_at = morning_hours(now, self._at)
        if day == self._written or not goes_at <= now < goes_at + TOO_LATE:
            return 0
        await self._write(day, until, now)
        self._written = day
        return 0

    async def _write(self, day: date, until: datetime, now: datetime) -> None:
        compared = await self._comparing.compared(day, until)
        text = morning_text(compared, self._comparing.names(), self._language)
        topic = f"{LINE}:{day.isoformat()}"

        async def deed(connection: Connection) -> bool:
            await notices.forget(connection, before=now - notices.KEPT)
            if self._channels:
                await notices.add(connection, topic, LINE, self._channels, text, now)
                return False
            return await notices.note(connection, topic, LINE, text, now)

        if await self._database.transaction(deed):
            log.info("morning.no_channel", set="MOA_NOTICE_WEBHOOKS", text=text)


def at_of(text: str) -> timedelta:
    """`HH:MM` past midnight."""
    hours, _, minutes = text.partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
