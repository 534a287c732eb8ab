"""What a worker waits for: a token of the wake list, or the end of one of its own runs.

In: tokens that `enqueue` leaves, popped on a connection that serves nothing else. Out: an `asyncio.Event` that is set.
One token wakes one worker, and a worker without a free slot leaves the tokens to the others.
"""

from __future__ import annotations

import asyncio
import random

import structlog
from redis.asyncio import Redis

from backend.jobs.leases import HORIZON
from backend.jobs.valkey import VALKEY_AWAY

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


class Waking:
    """Sets `woken` for each token. `room` is set while the worker has a free slot: without one it takes no further token."""

    def __init__(self, *, ear: Redis, key: str) -> None:
        self.woken = asyncio.Event()
        self.room = asyncio.Event()
        self._ear = ear
        self._key = key
        patience = ear.connection_pool.connection_kwargs.get("socket_timeout")  # a blocking command must end before it
        self._block = min(HORIZON, patience / 2) if patience else HORIZON

    async def listen(self) -> None:
        """Runs until it is cancelled. A token that arrives while Valkey is away, or nobody listens, stays in the list."""
        outage = Outage("listening")
        while True:
            await self.room.wait()
            try:
                if await self._pop():
                    self.room.clear()  # the next token is not ours before the claim that this one causes
                    self.woken.set()
                outage.over()
            except VALKEY_AWAY as exc:
                await outage.pause(exc)

    async def _pop(self) -> bool:
        return bool(await self._ear.execute_command("BLPOP", self._key, self._block))  # type: ignore[no-untyped-call]

    async def wait(self, seconds: float) -> None:
        """Returns when something woke the worker, at the latest after so long; forgets the wake-up."""
        if seconds > 0 and not self.woken.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.woken.wait()
            except TimeoutError:
                pass
        self.woken.clear()
