"""What calls to institutions add up to: roll-ups by institution, API, who asked, and hour; and which users called on which day. RULE: pure.

In: one ended call after the other. Out: `Rollup`s and `Seen`s, as increments that are added to what was told before. All figures are whole
numbers, so the order in which increments are added never matters. A user is a keyed digest: it can be counted and erased, not read.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Iterable

from msgspec import Struct

HOUR_MS = 3_600_000
KST_MS = 9 * HOUR_MS  # Korea is ahead of UTC by whole hours, so an hour begins at once in both

# Upper ends of the histogram's steps in ms, the end included; what took longer is counted in one step more.
BOUNDS_MS = (5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)

PROBES = "CM01"  # which APIs there are: only probes of circuits ask that, by nobody's wish and for nobody

MOST_ROLLUPS = 10_000  # that wait to be told: a hundred institutions with twenty APIs make 4,000 an hour
MOST_USERS = 100_000  # in all roll-ups that wait to be told; one who called three APIs counts three times


class Rollup(Struct, frozen=True, kw_only=True, array_like=True):
    """What became of the calls to one API of one institution that began in one hour."""

    org_code: str
    api_code: str
    scheduled: bool  # by the weekly batch; False: for a person
    hour: int  # its beginning, Unix time in ms
    calls: int  # = successes + all failures + cancelled
    successes: int
    failures: dict[str, int]  # by reason (`outcomes.CATALOGUE`)
    cancelled: int  # ended by us; they are in no figure below
    slow: int  # of those that came to an end, with the answer that the circuit counts as slow
    ms: int  # sum of the times
    ms_squared: int  # sum of their squares
    histogram: tuple[int, ...]  # by `BOUNDS_MS`; one longer


class Seen(Struct, frozen=True, kw_only=True, array_like=True):
    """Users for whom an institution was called on one day, by who asked. Whoever keeps them adds up sets, not numbers."""

    org_code: str
    scheduled: bool  # by the weekly batch; False: for a person
    day: int  # in Korea, as days since 1970-01-01
    users: tuple[str, ...]  # `user_key`s


def user_key(secret: bytes, user_id: str) -> str:
    """How traffic names a user: the same on every node and day, so that days can be joined and an erased user be found; 22 characters."""
    digest = hashlib.blake2b(user_id.encode(), key=secret[:64], person=b"moa-traffic", digest_size=16).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


class Tally:
    """Adds up. Bounded: a call that would need a new roll-up where there are too many is `uncounted`."""

    def __init__(self) -> None:
        self.uncounted = 0  # calls, or users of calls, that found no room
        self._sums: dict[tuple[str, str, bool, int], _Sum] = {}
        self._named = 0  # users in them

    def __bool__(self) -> bool:
        return bool(self._sums or self.uncounted)

    def add(
        self, org_code: str, api_code: str, scheduled: bool, began_ms: int, user: str | None, took_ms: int, reason: str | None, slow: bool
    ) -> None:
        """A call that came to an end. `began_ms`: Unix time. `reason` None: it succeeded. `user` None: for nobody in particular."""
        added = self._sum_of(org_code, api_code, scheduled, began_ms)
        if added is None:
            return
        if reason is None:
            added.successes += 1
        else:
            added.failures[reason] = added.failures.get(reason, 0) + 1
        added.calls += 1
        added.slow += slow
        added.ms += took_ms
        added.ms_squared += took_ms * took_ms
        added.histogram[bisect_left(BOUNDS_MS, took_ms)] += 1
        if user is not None and user not in added.users:
            self._name(added, user)

    def add_cancelled(self, org_code: str, api_code: str, scheduled: bool, began_ms: int, user: str | None) -> None:
        """A call that we ended."""
        added = self._sum_of(org_code, api_code, scheduled, began_ms)
        if added is None:
            return
        added.calls += 1
        added.cancelled += 1
        if user is not None and user not in added.users:
            self._name(added, user)

    def taken(self) -> tuple[tuple[Rollup, ...], tuple[Seen, ...], int]:
        """Everything since the last time, and how many found no room; begins again with nothing."""
        rollups = tuple(_rollup(key, sums) for key, sums in self._sums.items())
        users: dict[tuple[str, bool, int], set[str]] = {}
        for (org_code, _, scheduled, hour), sums in self._sums.items():
            users.setdefault((org_code, scheduled, day_of(hour)), set()).update(sums.users)
        seen = tuple(
            Seen(org_code=org_code, scheduled=scheduled, day=day, users=tuple(named))
            for (org_code, scheduled, day), named in users.items()
            if named
        )
        uncounted = self.uncounted
        self.uncounted, self._sums, self._named = 0, {}, 0
        return rollups, seen, uncounted

    def _sum_of(self, org_code: str, api_code: str, scheduled: bool, began_ms: int) -> _Sum | None:
        key = (org_code, api_code, scheduled, began_ms - began_ms % HOUR_MS)
        added = self._sums.get(key)
        if added is not None:
            return added
        if len(self._sums) >= MOST_ROLLUPS:
            self.uncounted += 1
            return None
        added = self._sums[key] = _Sum()
        return added

    def _name(self, added: _Sum, user: str) -> None:
        if self._named >= MOST_USERS:
            self.uncounted += 1
            return
        added.users.add(user)
        self._named += 1


def day_of(moment_ms: int) -> int:
    """The day in Korea of a moment in Unix time, as days since 1970-01-01."""
    return (moment_ms + KST_MS) // (24 * HOUR_MS)


def merged(rollups: Iterable[Rollup]) -> dict[tuple[str, str, bool, int], Rollup]:
    """Increments added up, by (org_code, api_code, scheduled, hour)."""
    sums: dict[tuple[str, str, bool, int], _Sum] = {}
    for each in rollups:
        key = (each.org_code, each.api_code, each.scheduled, each.hour)
        added = sums.get(key)
        if added is None:
            added = sums[key] = _Sum()
        added.take(each)
    return {key: _rollup(key, added) for key, added in sums.items()}


class _Sum:
    """A roll-up that still grows."""

    __slots__ = ("calls", "cancelled", "failures", "histogram", "ms", "ms_squared", "slow", "successes", "users")

    def __init__(self) -> None:
        self.calls = self.successes = self.cancelled = self.slow = self.ms = self.ms_squared = 0
        self.failures: dict[str, int] = {}
        self.users: set[str] = set()
        self.histogram = [0] * (len(BOUNDS_MS) + 1)

    def take(self, more: Rollup) -> None:
        self.calls += more.calls
        self.successes += more.successes
        self.cancelled += more.cancelled
        self.slow += more.slow
        self.ms += more.ms
        self.ms_squared += more.ms_squared
        for reason, times in more.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + times
        self.histogram = [one + other for one, other in zip(self.histogram, more.histogram, strict=True)]


def _rollup(key: tuple[str, str, bool, int], added: _Sum) -> Rollup:
    org_code, api_code, scheduled, hour = key
    return Rollup(
        org_code=org_code,
        api_code=api_code,
        scheduled=scheduled,
        hour=hour,
        calls=added.calls,
        successes=added.successes,
        failures=added.failures,
        cancelled=added.cancelled,
        slow=added.slow,
        ms=added.ms,
        ms_squared=added.ms_squared,
        histogram=tuple(added.histogram),
    )
