"""How a worker ends its own wait for a wake-up: at once, or when the next deferred job falls due.

In: moments. Out: a token in the worker's own list (`Leases.nudge`). One that gets lost costs a second: then the wait ends by itself.
"""

from __future__ import annotations

import asyncio

import structlog

from backend.jobs.leases import HORIZON, Leases
from backend.jobs.valkey import VALKEY_AWAY

log = structlog.get_logger()


class Nudging:
    """Build it inside a running loop; `close()` before Valkey's client closes."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def now(self) -> None:
        """Ends the wait that is under way."""
        task = self._loop.create_task(self._nudge())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def after(self, seconds: float | None) -> None:
        """Ends the wait then, instead of when it was last said. None, or beyond the horizon: never."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None or seconds >= HORIZON else self._loop.call_later(seconds, self.now)

    async def close(self) -> None:
        self.after(None)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _nudge(self) -> None:
        try:
            await self._leases.nudge()
        except VALKEY_AWAY as exc:
            log.debug("worker.not_nudged", error=type(exc).__name__)
