"""Reads a week for `statistics.py`. In: a Sunday. Out: a `Week`. No person is in it: calls are sums, consents are counts."""

from __future__ import annotations

from datetime import date, timedelta

from backend.providers.traffic import PROBES
from backend.reporting.figures import Sums, borders
from backend.reporting.statistics import DAYS, Consents, Slot, Week
from backend.storage import statistics, traffic_sums
from backend.storage.database import Database
from backend.storage.statements import Row

_SUMS = ("calls", "successes", "cancelled", "slow", "ms", "ms_squared")


class Weeks:
    """Reads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def week(self, sunday: date, today: date) -> Week:
        """What there is of the week that begins on that day; nothing of days after `today` in Korea. Raises `EngineUnavailable`."""
        begins, ends = borders(sunday)[0], borders(sunday + timedelta(days=DAYS))[0]
        async with self._database.reading() as connection:
            slots = [_slot(row) for row in await statistics.by_slot(connection, begins, ends)]
            failures = await traffic_sums.failures(connection, begins, ends, without=PROBES)
            consents = [_consents(row, sunday) for row in await statistics.consents(connection, begins, ends)]
        failed = tuple((row["org_code"], row["scheduled"], row["reason"], row["calls"]) for row in failures)
        return Week(sunday, tuple(slots), failed, tuple(each for each in consents if each.day <= today))


def _slot(row: Row) -> Slot:
    named = dict(row)
    return Slot(sums=Sums(**{name: named.pop(name) for name in _SUMS}), **named)


def _consents(row: Row, sunday: date) -> Consents:
    return Consents(
        day=sunday + timedelta(days=row["number"]), org_code=row["org_code"], new=row["new"], revoked=row["revoked"], held=row["held"]
    )
