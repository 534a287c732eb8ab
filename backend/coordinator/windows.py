"""The calls that count: the last so many, or those of the last so many seconds. RULE: memory without I/O, clock or randomness.

In: how calls ended, at which node, when. Out: the share of each node. What does not fit any more is forgotten, the oldest first; a call
that is reported late stands where it ended, not where it was heard. Moments are milliseconds of one clock that does not go back.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Protocol

from msgspec import Struct

NEVER = -math.inf
OK, SLOW, FAILED = range(3)  # how a call ended, as an index

_MOMENT = itemgetter(0)

Ended = tuple[float, str, int]  # when, at which node, how
Counts = dict[str, list[int]]  # by node: how many ended OK, SLOW, FAILED


class Share(Struct, frozen=True):
    """What a window holds of one node, or of several."""

    calls: int = 0
    slow: int = 0
    failures: int = 0

    def __add__(self, other: Share) -> Share:
        return Share(self.calls + other.calls, self.slow + other.slow, self.failures + other.failures)


class Window(Protocol):
    """The calls that count, oldest forgotten first."""

    def add(self, ended: list[Ended]) -> None: ...

    def shares(self, now: float, /) -> dict[str, Share]: ...

    def merge(self, other: Window) -> None: ...


class CountWindow:
    """The last `size` calls, in the order in which they ended."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ended: list[Ended] = []
        self._counts: Counts = {}

    def add(self, ended: list[Ended]) -> None:
        """Takes in what ended after the oldest that is still held."""
        for _, node, rank in ended:
            self._counts.setdefault(node, [0, 0, 0])[rank] += 1
        self._ended += ended
        self._ended.sort(key=_MOMENT)  # nearly in order already; at the same moment, as it was reported
        for _, node, rank in self._ended[: -self._size]:
            counts = self._counts[node]
            counts[rank] -= 1
            if not any(counts):
                del self._counts[node]
        del self._ended[: -self._size]

    def shares(self, _now: float, /) -> dict[str, Share]:
        """Nothing ends here by age."""
        return {node: _share(counts) for node, counts in self._counts.items()}

    def merge(self, other: Window) -> None:
        """Raises TypeError for a window of another kind."""
        if not isinstance(other, CountWindow):
            raise TypeError("windows of two kinds")
        self.add(list(other._ended))


class TimeWindow:
    """The calls of the second under way and of the `seconds` - 1 before it, one bucket for each."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._newest = NEVER  # the newest second that was seen
        self._buckets: dict[int, Counts] = {}
        self._counts: Counts = {}  # the sum of the buckets

    def add(self, ended: list[Ended]) -> None:
        """Takes in what ended lately enough."""
        for at, node, rank in ended:
            self._buckets.setdefault(int(at // 1000), {}).setdefault(node, [0, 0, 0])[rank] += 1
            self._counts.setdefault(node, [0, 0, 0])[rank] += 1
        if ended:
            self._move(max(self._buckets))

    def shares(self, now: float, /) -> dict[str, Share]:
        """What is left of each node's calls at `now`."""
        self._move(now // 1000)
        return {node: _share(counts) for node, counts in self._counts.items()}

    def merge(self, other: Window) -> None:
        """Raises TypeError for a window of another kind."""
        if not isinstance(other, TimeWindow):
            raise TypeError("windows of two kinds")
        for second, bucket in other._buckets.items():
            _add(self._buckets.setdefault(second, {}), bucket, 1)
            _add(self._counts, bucket, 1)
        self._move(other._newest)

    def _move(self, second: float) -> None:
        self._newest = max(self._newest, second)
        for old in [bucket for bucket in self._buckets if bucket <= self._newest - self._seconds]:
            _add(self._counts, self._buckets.pop(old), -1)


def _share(counts: list[int]) -> Share:
    return Share(sum(counts), counts[SLOW], counts[FAILED])


def _add(counts: Counts, more: Counts, sign: int) -> None:
    """Adds, or takes away; a node without calls is forgotten."""
    for node, (ok, slow, failed) in more.items():
        was = counts.get(node, (0, 0, 0))
        counts[node] = [was[OK] + sign * ok, was[SLOW] + sign * slow, was[FAILED] + sign * failed]
        if not any(counts[node]):
            del counts[node]
