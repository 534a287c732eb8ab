"""Reads a week for `statistics.py`. In: a Sunday. Out: a `Week`. No person is in it: calls are sums, consents are counts.

Consents of finished days are added up already (`rolling.py`); those of days since then, today too, are what changed since. Where that is
too much to be read while somebody waits, the week says which days it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import asyncpg

from backend.providers.traffic import PROBES
from backend.reporting.figures import Sums, borders
from backend.reporting.statistics import DAYS, Consents, Slot, Week, summed_up
from backend.storage import consent_days, statistics, traffic_sums
from backend.storage.database import Database
from backend.storage.statements import Connection, Row

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
        failed = tuple((row["org_code"], row["scheduled"], row["reason"], row["calls"]) for row in failures)
        consents, missing = await self._consents(sunday, min(sunday + timedelta(days=DAYS - 1), today))
        return Week(sunday, tuple(slots), failed, tuple(consents), tuple(missing))

    async def _consents(self, first: date, last: date) -> tuple[Sequence[Consents], Sequence[date]]:
        """What is known of these days, and the days of which nothing is."""

        async def deed(connection: Connection) -> tuple[Sequence[Consents], Sequence[date]]:
            known = await consent_days.known(connection, first, last)
            added_up = [_consents(row) for row in known.days]
            found = [each for each in added_up if first <= each.day <= last]
            if known.last is not None and known.last >= last:
                return found, ()
            try:
                changed = await consent_days.changed(connection, known.last, last)
            except asyncpg.QueryCanceledError:  # the transaction has read all that it will
                return found, _days(first if known.last is None else max(first, known.last + timedelta(days=1)), last)
            before = [each for each in added_up if each.day == known.last]
            since = summed_up(before, [_consents(row) for row in changed], last)
            return [*found, *(each for each in since if each.day >= first)], ()

        return await self._database.transaction(deed)


def _days(first: date, last: date) -> Sequence[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _slot(row: Row) -> Slot:
    named = dict(row)
    return Slot(sums=Sums(**{name: named.pop(name) for name in _SUMS}), **named)


def _consents(row: Row) -> Consents:
    return Consents(day=row["day"], org_code=row["org_code"], new=row["granted"], revoked=row["revoked"], held=row["held"])
