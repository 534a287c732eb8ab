"""What finds lost work: each sweep looks again and again, and none waits for another.

In: sweeps, each with a name and one method. Out: they run every so many seconds, with jitter, each within a deadline.
Whoever leads runs the sweeper and cancels it when it leads no more. A failure is told when it begins and when it ends.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from backend.clock import Clock

DEADLINE = 30.0  # seconds for one sweep

log = structlog.get_logger()


class Sweep(Protocol):
    """Something to look for. It must be safe to look twice at once: a leader that lost its lease may still be looking."""

    @property
    def name(self) -> str:
        """For logs."""
        ...

    async def sweep(self, now: datetime) -> int:
        """How much was found and mended."""
        ...


class Round:
    """Where a sweep goes on that sees so many rows at a time: what it saw may wait in somebody's hands for long, as the oldest."""

    def __init__(self) -> None:
        self.skip = 0  # rows

    def saw(self, found: int, *, most: int) -> None:
        """So many rows of `most`; fewer, and the next look begins with the oldest again."""
        self.skip = self.skip + found if found >= most else 0


class Sweeper:
    """Runs each sweep `every` seconds, give or take a tenth, for as long as `run()` is not cancelled."""

    def __init__(
        self,
        sweeps: Sequence[Sweep],
        every: float,
        *,
        clock: Clock,
        deadline: float = DEADLINE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sweeps = sweeps
        self._every = every
        self._clock = clock
        self._deadline = deadline
        self._sleep = sleep

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for sweep in self._sweeps:
                group.create_task(self._repeat(sweep))

    async def _repeat(self, sweep: Sweep) -> None:
        failing: str | None = None  # the kind of the last failure; None: the last sweep went well
        while True:
            failure = await self._once(sweep)
            if failure is not None and failure != failing:
                log.warning("sweep.failing", sweep=sweep.name, error=failure)
            elif failure is None and failing is not None:
                log.info("sweep.well_again", sweep=sweep.name)
            failing = failure
            await self._sleep(self._every * random.uniform(0.9, 1.1))  # noqa: S311  # jitter, not a secret

    async def _once(self, sweep: Sweep) -> str | None:
        """What kind of failure it met."""
        try:
            async with asyncio.timeout(self._deadline):
                found = await sweep.sweep(self._clock.now())
        except Exception as exc:  # whatever it is, the next sweep may succeed
            return type(exc).__name__
        if found:
            log.info("sweep.found", sweep=sweep.name, found=found)
        return None
