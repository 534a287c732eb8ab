"""The only reader of time.

Shells read a `Clock` and hand the moment down as an argument; rules never ask what time it is.
`SystemClock` is the real one, `ManualClock` the twin that tests move by hand.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Protocol

KST = timezone(timedelta(hours=9), "KST")  # Korea has no daylight saving time


class Clock(Protocol):
    """Wall time for facts and deadlines that are stored, monotonic time for what is measured."""

    def now(self) -> datetime:
        """The moment, in UTC with a time zone, cut to milliseconds (what the wire carries)."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> datetime:
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def move(self, by: timedelta) -> None:
        """Moves both clocks forward."""
        self._now += by
        self._monotonic += by.total_seconds()


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-22T01:02:03.004Z`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"
