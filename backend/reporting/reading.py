"""Questions to the sums: who was called how often, how it ended and how long it took; and the same a week before.

In: a day in Korea, perhaps only up to a moment of it. Out: values with exact sums, whose figures are properties. Sums are kept by the
hour, so "up to a moment" means the hours that began before it. No row: nobody called, or the day was before the sums began. Probes of
circuits are nobody's calls: only `by_api` has them, under their code (`PROBES`).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, TypeVar

from msgspec import Struct

from backend.providers.traffic import PROBES
from backend.reporting.figures import WEEK, Sums, borders, day_of, whole_hours
from backend.storage import traffic_sums
from backend.storage.database import Database
from backend.storage.statements import Row
from backend.storage.traffic_sums import By

T = TypeVar("T")

_NAMES = Sums.__struct_fields__


class OfProvider(Struct, frozen=True):
    """Sums of one institution."""

    org_code: str
    scheduled: bool  # by the weekly batch; False: for a person
    sums: Sums


class OfApi(Struct, frozen=True):
    """Sums of one API of an institution."""

    org_code: str
    api_code: str
    scheduled: bool
    sums: Sums


class OfHour(Struct, frozen=True):
    """Sums of one institution in one hour."""

    hour: datetime  # its beginning
    org_code: str
    scheduled: bool
    sums: Sums


class Failed(Struct, frozen=True):
    """How often an institution's calls ended in one way."""

    org_code: str
    scheduled: bool
    reason: str  # of `outcomes.CATALOGUE`, or `http_` and three digits
    calls: int


class Users(Struct, frozen=True):
    """For how many users an institution was called on a day."""

    org_code: str
    scheduled: bool
    users: int


class Comparison(Struct, frozen=True):
    """Today up to the last whole hour, and the same weekday a week before up to the same time."""

    day: date
    until: datetime
    now: tuple[OfProvider, ...]
    before: tuple[OfProvider, ...]


class Losses(Struct, frozen=True):
    """What is in no sum, of the last seven days. All 0: the sums are all that there was."""

    reports: int  # that never came, or not yet
    calls: int  # or users of calls, for which nodes had no room


class Traffic:
    """Reads. `until`: hours that begin at that moment or later are left out; None: the whole day."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def by_provider(self, day: date, until: datetime | None = None) -> tuple[OfProvider, ...]:
        """Institutions that were called on that day."""
        return await self._summed(OfProvider, By.PROVIDER, day, until)

    async def by_api(self, day: date, until: datetime | None = None) -> tuple[OfApi, ...]:
        """APIs that were called on that day, by probes too."""
        return await self._summed(OfApi, By.API, day, until)

    async def by_hour(self, day: date) -> tuple[OfHour, ...]:
        """Institutions by hour, oldest first."""
        return await self._summed(OfHour, By.HOUR, day, None)

    async def compared(self, now: datetime) -> Comparison:
        """The day so far with the one a week before."""
        day, until = day_of(now), whole_hours(now)
        before = await self.by_provider(day - WEEK, until - WEEK)
        return Comparison(day, until, await self.by_provider(day, until), before)

    async def failures(self, day: date, until: datetime | None = None) -> tuple[Failed, ...]:
        """How calls failed on that day."""
        begins, ends = _hours(day, until)
        async with self._database.reading() as connection:
            return tuple(Failed(**row) for row in await traffic_sums.failures(connection, begins, ends, without=PROBES))

    async def users(self, day: date) -> tuple[Users, ...]:
        """For how many users each institution was called. Who is forgotten stays in the number."""
        async with self._database.reading() as connection:
            return tuple(Users(**row) for row in await traffic_sums.users(connection, day))

    async def losses(self) -> Losses:
        """Whether the sums are whole."""
        async with self._database.reading() as connection:
            return Losses(*await traffic_sums.losses(connection))

    async def _summed(self, kind: type[T], by: By, day: date, until: datetime | None) -> tuple[T, ...]:
        begins, ends = _hours(day, until)
        without = "" if by is By.API else PROBES
        async with self._database.reading() as connection:
            return tuple(kind(**_with_sums(row)) for row in await traffic_sums.summed(connection, by, begins, ends, without=without))


def _hours(day: date, until: datetime | None) -> tuple[datetime, datetime]:
    begins, ends = borders(day)
    return begins, ends if until is None else min(ends, until)


def _with_sums(row: Row) -> dict[str, Any]:
    named = dict(row)
    sums = {name: named.pop(name) for name in _NAMES}
    return {**named, "sums": Sums(**{**sums, "histogram": tuple(sums["histogram"])})}
