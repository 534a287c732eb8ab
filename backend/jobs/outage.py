"""Whether Valkey answers, as one of a worker's loops finds: said once per change, with a pause between attempts that grows."""

from __future__ import annotations

import asyncio
import random

import structlog

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between two attempts to reach Valkey

log = structlog.get_logger()


class Outage:
    """Whether Valkey answers one of the worker's loops. Said once per change; between attempts a growing pause with jitter."""

    def __init__(self, loop_name: str) -> None:
        self._loop_name = loop_name
        self._attempts = 0

    @property
    def lasting(self) -> bool:
        """Whether the last attempt failed."""
        return self._attempts > 0

    async def pause(self, exc: Exception) -> None:
        """After a failure: waits, so that a fleet does not come back at one moment."""
        if not self._attempts:
            log.warning("valkey.away", loop=self._loop_name, error=type(exc).__name__)
        self._attempts += 1
        most = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2 ** min(self._attempts, 10))
        await asyncio.sleep(random.uniform(SHORTEST_PAUSE, most))  # noqa: S311  # jitter, not a secret

    def over(self) -> None:
        """After an answer."""
        if self._attempts:
            log.info("valkey.back", loop=self._loop_name, attempts=self._attempts)
            self._attempts = 0
