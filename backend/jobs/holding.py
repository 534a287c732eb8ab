"""Whether what a worker has in hand is surely its own: asked before each call to the outside, which no row fences.

In: the worker's renewals. Out: at once, or for a worker that stood still for longer than its leases after the next renewal: others may have
its jobs by then, and its runs of those end before anybody who waits here goes on. While Valkey cannot be reached nobody claims, and nobody
waits.
"""

from __future__ import annotations

import asyncio
from math import inf

from backend.clock import Clock


class Holding:
    """One per worker, made in `workers.py`; told by `Renewing`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = inf  # on the monotonic clock: before that no job that we hold is another's
        self._told = asyncio.Event()

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can have claimed a job of this worker."""
        return self._clock.monotonic() < self._until

    async def until_sure(self) -> None:
        """Returns when nobody else can have claimed a job that still runs here. Whoever waits has a deadline of their own."""
        while not self.is_sure:
            self._told.clear()
            await self._told.wait()

    def renewed(self, until: float) -> None:
        """Every lease runs until then, and runs of jobs that others have were ended."""
        self._until = until
        self._told.set()

    def unknown(self) -> None:
        """Valkey cannot be reached."""
        self.renewed(inf)
