"""The lead among coordinators: a lease in Valkey with a fencing token.

In: nothing but time. Out: while this process leads, its duties run; they are cancelled when it may lead no more. A leader that cannot
reach Valkey stops before its lease can pass to another. Two leaders for a moment do no harm: duties are idempotent, decisions fenced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import structlog
from redis.asyncio import Redis

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.jobs.valkey import engine_errors

LEADER = "moa:coordinator:v1:{lead}:leader"  # hash: name, token; lives as long as the lease
FENCE = "moa:coordinator:v1:{lead}:fence"  # the last fencing token given
SAFETY = 0.8  # the part of a lease after which an unconfirmed leader steps down: Valkey's clock may run faster than ours

log = structlog.get_logger()


def word_of(token: int) -> str:
    """A fencing token as log lines name it: so many digits alone look like an account's number, and would be hidden."""
    return f"f{token:x}"


class Leader:
    """Competes for the lead. `lease`: seconds after which a silent leader is replaced."""

    def __init__(self, *, redis: Redis, clock: Clock, lease: float) -> None:
        self.name = uuid4().hex
        self._clock = clock
        self._lease = lease
        self._lead = redis.register_script(Path(__file__).with_name("lead.lua").read_text())
        self._resign = redis.register_script(Path(__file__).with_name("resign.lua").read_text())

    async def run(self, duties: Callable[[int], Awaitable[None]]) -> None:
        """Runs `duties(fencing token)` whenever this process leads, until it is cancelled."""
        try:
            while True:
                token, asked = await self._elected()
                log.info("leader.elected", leader=self.name, fence=word_of(token))
                await self._reign(duties, token, asked)
                log.info("leader.stepped_down", leader=self.name, fence=word_of(token))
        finally:
            # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
            await asyncio.create_task(self._step_down())

    async def _elected(self) -> tuple[int, float]:
        """My fencing token, and when I asked for it."""
        answered = True
        while True:
            asked = self._clock.monotonic()
            token = await self._confirmed(self._lease / 3)
            if token:
                return token, asked
            if answered and token is None:
                log.warning("leader.not_decided", engine="Valkey")  # whoever starts one must see why nothing happens
            answered = token is not None
            await asyncio.sleep(self._lease / 3)  # another may go away without a word

    async def _reign(self, duties: Callable[[int], Awaitable[None]], token: int, asked: float) -> None:
        task = asyncio.ensure_future(duties(token))
        try:
            await self._keep(token, asked, task)
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()  # duties never end by themselves: this raises what ended them

    async def _keep(self, token: int, confirmed: float, task: asyncio.Future[None]) -> None:
        """Returns when the lead is lost, or cannot be confirmed in time. `confirmed`: the lease runs since then, or a little later."""
        while (left := self._left(confirmed)) > 0 and not task.done():
            await asyncio.wait({task}, timeout=min(self._lease / 3, left))
            asked = self._clock.monotonic()
            held = await self._confirmed(min(self._lease / 3, max(0, self._left(confirmed))))
            if held == token:
                confirmed = asked
            elif held is not None:
                return

    def _left(self, confirmed: float) -> float:
        """Seconds that an unconfirmed leader may still lead."""
        return confirmed + self._lease * SAFETY - self._clock.monotonic()

    async def _confirmed(self, seconds: float) -> int | None:
        """My fencing token; 0: another leads; None: Valkey did not answer in so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                with engine_errors():
                    return int(await self._lead([LEADER, FENCE], [self.name, round(self._lease * 1000)]))
        except (EngineUnavailable, TimeoutError):
            return None

    async def _step_down(self) -> None:
        with contextlib.suppress(EngineUnavailable, TimeoutError):
            async with asyncio.timeout(1):
                with engine_errors():
                    await self._resign([LEADER], [self.name])
