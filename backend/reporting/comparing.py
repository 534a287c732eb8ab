"""Reads what `comparison.py` compares, and notes users by the hour so that a part of a day can be compared, too.

In: a day and the end of its hours. Out: a `Compared`. Of a whole day the users are those of the day; of a part of one those that were noted
when its last hour ended, on both days in the same way. What was not noted is not known, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from backend.events import Industry
from backend.providers.directory import Directory
from backend.reporting.comparison import SETTLING, Compared, Counted, Options, compare
from backend.reporting.figures import WEEK, borders, day_of, whole_hours
from backend.reporting.reading import OfProvider, Traffic
from backend.storage import traffic_marks
from backend.storage.database import Database

LATEST = timedelta(minutes=5)  # after an hour's end: then its note would say too much


class Comparing:
    """Compares."""

    def __init__(self, *, database: Database, traffic: Traffic, directory: Callable[[], Directory], options: Options) -> None:
        self._database = database
        self._traffic = traffic
        self._directory = directory
        self._options = options

    async def compared(self, day: date, until: datetime) -> Compared:
        """`until`: the end of the hours of `day` that count (`comparison.hours_of`). Raises `EngineUnavailable`."""
        async with self._database.reading() as connection:
            since = await traffic_marks.known_since(connection)
        return compare(
            await self._counted(day, until),
            await self._counted(day - WEEK, until - WEEK),
            industries_of(self._directory()),
            day=day,
            until=until,
            known_since=since,
            options=self._options,
        )

    def names(self) -> Mapping[str, str]:
        """Institutions' names, by code."""
        return names_of(self._directory())

    async def _counted(self, day: date, until: datetime) -> list[Counted]:
        users = await self._users(day, until)
        return [_counted(each, users) for each in await self._traffic.by_provider(day, until)]

    async def _users(self, day: date, until: datetime) -> Mapping[tuple[str, bool], int]:
        if until >= borders(day)[1]:
            return {(each.org_code, each.scheduled): each.users for each in await self._traffic.users(day)}
        async with self._database.reading() as connection:
            return {(row["org_code"], row["scheduled"]): row["users"] for row in await traffic_marks.read(connection, until)}


class UsersByHour:
    """A sweep: notes users when an hour of the day has ended and its last calls are in the sums."""

    name = "users_by_hour"

    def __init__(self, *, database: Database) -> None:
        self._database = database
        self._noted: datetime | None = None

    async def sweep(self, now: datetime) -> int:
        """Always 0: nothing was lost."""
        hour = whole_hours(now - SETTLING)
        day = day_of(hour)
        if hour == self._noted or now - hour > LATEST or hour == borders(day)[0]:
            return 0  # a whole day needs no note
        async with self._database.reading() as connection:
            await traffic_marks.note(connection, day, hour)
            await traffic_marks.forget(connection, before=now - traffic_marks.KEPT)
        self._noted = hour
        return 0


def industries_of(directory: Directory) -> Mapping[str, Industry]:
    """The category of each provider."""
    return {provider.org_code: provider.industry for provider in directory.providers}


def names_of(directory: Directory) -> Mapping[str, str]:
    """The name of each institution."""
    return {provider.org_code: provider.name for provider in directory.providers} | {directory.ca.org_code: directory.ca.name}


def _counted(each: OfProvider, users: Mapping[tuple[str, bool], int]) -> Counted:
    asked = users.get((each.org_code, each.scheduled))
    return Counted(org_code=each.org_code, scheduled=each.scheduled, calls=each.sums.calls, users=asked)
