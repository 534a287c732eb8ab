"""Alerts become messages: one message for each kind of trouble and interval, with all that began and all that ended.

In: rows of alerts. Out: rows of messages, written in the transaction that notes what was told, so that nothing is told twice or never. The
first message waits a moment for what comes with it; the next of the same kind for its interval. `messenger.py` sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from backend.reporting.alert_text import alert_text
from backend.reporting.morning_text import Language
from backend.storage import alerts, notices
from backend.storage.alerts import Alert
from backend.storage.database import Database
from backend.storage.statements import Connection

GATHER = timedelta(seconds=3)  # from the first that is to be told to its message
KEPT = timedelta(days=90)
MOST = 1000  # alerts of one look


class AlertMessages:
    """A sweep: writes messages."""

    name = "alert_messages"

    def __init__(
        self,
        *,
        database: Database,
        channels: Sequence[str],
        names: Callable[[], Mapping[str, str]],
        interval: timedelta,
        language: Language,
    ) -> None:
        """`channels`: their ids; `interval`: between two messages of the same kind."""
        self._database = database
        self._channels = channels
        self._names = names
        self._interval = interval
        self._language = language

    async def sweep(self, now: datetime) -> int:
        """Always 0: nothing was lost. Raises `EngineUnavailable`."""
        await self._database.transaction(lambda connection: self._tell(connection, now))
        return 0

    async def _tell(self, connection: Connection, now: datetime) -> None:
        untold = sorted(await alerts.untold(connection, limit=MOST), key=lambda each: each.kind)
        if not untold:
            await alerts.forget(connection, before=now - KEPT)
            return
        last = await alerts.last_told(connection, since=now - self._interval)
        for kind, group in groupby(untold, key=lambda each: each.kind):
            found = list(group)
            if kind not in last and min(map(_changed, found)) <= now - GATHER:
                await self._write(connection, kind, found, now)

    async def _write(self, connection: Connection, kind: str, found: Sequence[Alert], now: datetime) -> None:
        text = alert_text(found, self._names(), self._language)
        if text is not None and self._channels:
            await notices.forget(connection, before=now - notices.KEPT)  # with each, so that it keeps up with however many there are
            await notices.add(connection, f"alerts:{kind}:{now.isoformat()}", f"alerts:{kind}", self._channels, text, now)
        await alerts.told(connection, [each.id for each in found], now)


def _changed(alert: Alert) -> datetime:
    """Since when there is something to tell."""
    return alert.opened_at if alert.told_at is None or alert.closed_at is None else alert.closed_at
