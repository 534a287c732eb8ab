"""On which terms the batch works, and what a week asks for on them. RULE: values.

In: what settings say, a provider of the directory, a moment. Out: finish lines, limits, and which links are due.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from functools import lru_cache

from msgspec import Struct

from backend.batch.calendar import Override, Window, in_korea, left_on, sunday_of, windows_on
from backend.batch.commands import last_day
from backend.batch.pace import minutes_of
from backend.clock import KST
from backend.providers.contract import Provider
from backend.storage.batch_due import Due


class Terms(Struct, frozen=True, kw_only=True):
    """What operators set for the whole batch."""

    automatic: bool = True  # false: only rehearsals send
    calls_per_second: float = 500.0  # of a provider with which nothing was agreed
    finish: timedelta = timedelta(seconds=60)  # the longest that reading one link takes
    skips_refreshed: bool = True  # links that their person refreshed this week are left alone
    min_age_days: int = 0  # 0: no link is too young
    max_age_days: int = 0  # 0: the week alone says when a link is due
    attempts: int = 3  # most of one link that fails, in one week
    unknown_attempts: int = 2  # most of one link whose attempt ended nobody knows how; 1: it is not tried again
    said: tuple[Override, ...] = ()  # about days

    def finish_of(self, provider: Provider) -> timedelta:
        """So long before a window's end the last call begins."""
        return self.finish if provider.collection_deadline is None else timedelta(seconds=provider.collection_deadline)

    def per_second_of(self, provider: Provider) -> float:
        """Calls that it takes of the whole fleet."""
        return provider.calls_per_second or self.calls_per_second

    def windows_on(self, provider: Provider, on: date) -> tuple[Window, ...]:
        """Where scheduled calls may begin on a day: the provider's windows, each up to its finish line."""
        return left_on(on, provider.transfer_windows, now=midnight(on), finish=self.finish_of(provider))

    def minutes_on(self, provider: Provider, on: date) -> tuple[datetime, ...]:
        """The whole minutes of those windows."""
        return _minutes(provider.transfer_windows, on, self.finish_of(provider))

    def due_at(self, now: datetime) -> Due:
        """What the week of this moment asks for."""
        week = sunday_of(in_korea(now))
        return Due(
            week=week,
            due_by=last_day(week),
            attempts=self.attempts,
            unknown_attempts=self.unknown_attempts,
            fresh_since=midnight(week) if self.skips_refreshed else None,
            ripe_before=now - timedelta(days=self.min_age_days) if self.min_age_days else None,
        )

    def opens_next(self, provider: Provider, now: datetime) -> datetime:
        """When the provider's next window begins. One whose windows are too short for a call is looked at again a day later."""
        days = (in_korea(now) + timedelta(days=ahead) for ahead in range(2))
        begins = (window.begins for on in days for window in self.windows_on(provider, on))
        return next((each for each in begins if each > now), now + timedelta(days=1))


@lru_cache(maxsize=1024)
def _minutes(np_times: tuple[str, ...], on: date, finish: timedelta) -> tuple[datetime, ...]:
    """They are asked for each second; providers have much the same windows."""
    return tuple(minutes_of(left_on(on, np_times, now=midnight(on), finish=finish)))


def midnight(on: date) -> datetime:
    """When a day begins in Korea."""
    return datetime.combine(on, time.min, KST)


def last_end(provider: Provider, week: date) -> datetime:
    """When the last window of the week that begins with this Sunday closes."""
    return windows_on(last_day(week), provider.transfer_windows)[-1].ends
