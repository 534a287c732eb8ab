"""How late this process's loop is: for so long everything in it stood still, its sockets, leases and deadlines too.

In: a process's `Metrics`, a monotonic clock. Out: one observation a second, of how much later than asked a timer woke. It costs that one
timer. A loop that stands still for ten seconds is seen once, as ten seconds late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from backend.clock import Clock
from backend.metrics import Metric, Metrics

EVERY = 1.0  # seconds


class Lateness:
    """One timer, again and again, from `begin` to `end`."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None  # None: it does not run

    def begin(self) -> None:
        """In the loop that is to be looked at."""
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._woke, self._clock.monotonic() + EVERY)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _woke(self, due: float) -> None:
        self._metrics.observe(Metric.LOOP_LAG, value=max(self._clock.monotonic() - due, 0.0))  # timers may wake a tick early
        self.begin()


@asynccontextmanager
async def lateness_shown(metrics: Metrics, clock: Clock) -> AsyncIterator[None]:
    """While the block runs."""
    lateness = Lateness(metrics, clock)
    lateness.begin()
    try:
        yield
    finally:
        lateness.end()
