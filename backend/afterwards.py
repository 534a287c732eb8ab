"""What an API does after it has answered: facts go to the feed, jobs to the queue.

In: what a room left to be done. Out: it is done, or an engine is away and the sweeper does it. Bounded: nobody's answer waits for this, and
nothing is lost that is dropped here.
"""

from __future__ import annotations

import asyncio

import structlog

from backend.errors import EngineUnavailable
from backend.jobs.queue import JobQueue
from backend.metrics import Metric, Sample, Samples
from backend.registration.accepting import After
from backend.storage.outbox import Relay

MOST_AT_ONCE = 1000  # answers whose hand-over is under way; what is beyond is left to the sweeper

log = structlog.get_logger()


class Afterwards:
    """What may happen after an answer: facts go to the feed, jobs to the queue. Bounded; the sweeper finds whatever is dropped."""

    def __init__(self, *, queue: JobQueue, relay: Relay) -> None:
        self._queue = queue
        self._relay = relay
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = 0  # to the sweeper

    def __call__(self, after: After) -> None:
        if len(self._tasks) >= MOST_AT_ONCE:
            log.warning("afterwards.left_to_the_sweeper")
            self._left += 1
            return
        task = asyncio.create_task(self._hand_over(after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, after: After) -> None:
        await asyncio.gather(self._enqueue(after), self._relay.push(after.user_id, after.entries))

    async def _enqueue(self, after: After) -> None:
        try:
            if after.jobs:
                await self._queue.enqueue(after.jobs)
        except EngineUnavailable as exc:
            log.info("enqueue.left_to_the_sweeper", engine=exc.engine)

    async def finish(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def measured(self) -> Samples:
        """Of this process."""
        yield Sample(Metric.AFTERWARDS, (), len(self._tasks))
        yield Sample(Metric.AFTERWARDS_DROPPED, (), self._left)
