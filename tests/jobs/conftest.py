"""The queue and its workers at a real Valkey, for the tests of this room.

Leases, pauses and due times run on Valkey's clock, which no test can move: they are short instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from backend.clock import SystemClock
from backend.jobs.attempts import OnPoisoned
from backend.jobs.holding import Holding
from backend.jobs.queue import Job, QueueName, ValkeyQueue
from backend.jobs.valkey import connect
from backend.jobs.worker import Bounds, LeasedWorker
from tests.jobs.book import Book

LEASE = 0.3


class Jobs:
    """One queue, any number of workers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = self.connect()
        self.queue = ValkeyQueue(redis=self.redis, clock=SystemClock())

    def connect(self) -> Redis:
        return connect(self.url, timeout=1.0, pool=20)

    async def enqueue(self, function: str, *, job_id: str = "job", **kwargs: Any) -> int:
        return await self.queue.enqueue([Job(function, kwargs, job_id)])

    def worker(self, *functions: Any, on_poisoned: OnPoisoned | None = None, holding: Holding | None = None, **bounds: Any) -> LeasedWorker:
        """One that is impatient where `bounds` says nothing."""
        return LeasedWorker(
            functions,
            queue=QueueName.INTERACTIVE,
            redis=self.connect,
            clock=SystemClock(),
            bounds=Bounds(**{"lease": LEASE, "max_jobs": 10, "retry_delay": 0.01, "drain": 2.0, **bounds}),
            on_poisoned=on_poisoned,
            holding=holding,
        )

    @asynccontextmanager
    async def running(self, *functions: Any, **options: Any) -> AsyncIterator[LeasedWorker]:
        """A worker that runs meanwhile, and drains in the end."""
        worker = self.worker(*functions, **options)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await task

    async def run_all(self, *functions: Any, **options: Any) -> LeasedWorker:
        """Runs until no job waits or runs; returns the stopped worker."""
        async with self.running(*functions, **options) as worker:
            await self.emptied()
        return worker

    async def emptied(self, seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while await self.redis.zcard("arq:queue:interactive"):
                await asyncio.sleep(0.002)

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.002)

    async def keys(self) -> set[str]:
        """Every key that belongs to a job."""
        return {key.decode() for key in await self.redis.keys("arq:*") if b":workers:" not in key and b":wake:" not in key}


@pytest.fixture
async def jobs(valkey_url: str) -> AsyncIterator[Jobs]:
    here = Jobs(valkey_url)
    yield here
    await here.redis.aclose()


@pytest.fixture
def book() -> Book:
    return Book()
