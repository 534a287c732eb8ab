"""How long an answer takes: log-normal, given by its p50 and p99, as measured services are.

The defaults are calibrated: for an ordinary person, one after the other, the CA's three calls and then token, lists, basics and details of
ten providers take 3.3 s on average (`tests/sandbox/test_latency.py` computes it). RULE but for the generator that is handed in.
"""

from __future__ import annotations

import math
from random import Random
from typing import Annotated

from msgspec import Meta, Struct

from backend.events import Industry

_Z99 = 2.326348  # the 99th percentile of the normal distribution
_LONGEST = 600_000.0  # ms

Milliseconds = Annotated[float, Meta(ge=0, le=_LONGEST)]


class Latency(Struct, frozen=True, forbid_unknown_fields=True):
    """Milliseconds that half, and all but one in a hundred, of the answers stay below."""

    p50: Milliseconds
    p99: Milliseconds

    def __post_init__(self) -> None:
        if self.p99 < self.p50:
            raise ValueError("p99 must not be below p50")

    def draw(self, random: Random) -> float:
        """Seconds of one answer; at most four times the p99."""
        if self.p50 <= 0:
            return 0.0
        return min(self.p50 * math.exp(self._sigma * random.gauss()), 4 * self.p99) / 1000

    @property
    def mean(self) -> float:
        """Milliseconds, of the distribution without its cut."""
        return self.p50 * math.exp(self._sigma**2 / 2)

    @property
    def _sigma(self) -> float:
        return math.log(self.p99 / self.p50) / _Z99 if self.p50 else 0.0


NONE = Latency(0.0, 0.0)
SLOW = Latency(3000.0, 3000.0)  # mode `slow` when no latency is given

CA = Latency(70.0, 245.0)
_P50: dict[Industry, float] = {
    Industry.BANK: 29.0,
    Industry.CARD: 29.0,
    Industry.INVEST: 29.0,
    Industry.INSU: 29.0,
    Industry.EFIN: 29.0,
    Industry.CAPITAL: 43.0,
    Industry.TELECOM: 48.0,
}
_SPREAD = (1.0, 0.7, 1.35, 1.1)  # providers of one industry differ
_TAIL = 3.5  # p99 / p50


def usual(industry: Industry, number: int) -> Latency:
    """What the `number`th provider (from 0) of an industry takes per call."""
    p50 = round(_P50[industry] * _SPREAD[number % len(_SPREAD)], 1)
    return Latency(p50, round(p50 * _TAIL, 1))
