"""A worker that stood still asks who has its jobs before it does what no row fences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis as Blocking

from backend.clock import SystemClock
from backend.jobs.holding import Holding
from tests.jobs.conftest import LEASE

Meanwhile = Callable[["Blocking[bytes]"], object]


class Zombie:
    """A job whose worker stands still in the middle, for longer than its lease; then it calls."""

    def __init__(self, jobs: Any, meanwhile: Meanwhile) -> None:
        self.holding = Holding(SystemClock())
        self.calls: list[bool] = []
        self.over = asyncio.Event()
        self._jobs, self._meanwhile = jobs, meanwhile

    async def work(self, ctx: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(LEASE / 2)  # the first renewal is over
            with Blocking.from_url(self._jobs.url) as valkey:  # blocks the loop, as a freeze does
                self._meanwhile(valkey)
                time.sleep(LEASE * 1.2)  # noqa: ASYNC251
            await self._call(ctx, depth=5)
        finally:
            self.over.set()

    async def _call(self, ctx: dict[str, Any], depth: int) -> None:
        """At the end of a line of tasks: a cancellation travels along it one by one."""
        if depth:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._call(ctx, depth - 1))
        else:
            await self.holding.until_sure()
            self.calls.append(ctx["lease"].owned())


def nobody(_: Blocking[bytes]) -> None:
    """Claims the job."""


def somebody(valkey: Blocking[bytes]) -> None:
    """Claims the job."""
    valkey.set("arq:in-progress:job", "somebody else")
    valkey.zadd("arq:queue:interactive", {"job": (time.time() + 60) * 1000})


@pytest.mark.parametrize(("meanwhile", "calls"), [(nobody, [True]), (somebody, [])])
async def test_a_worker_that_stood_still_calls_for_what_is_still_its_own_only(jobs: Any, meanwhile: Meanwhile, calls: list[bool]) -> None:
    zombie = Zombie(jobs, meanwhile)
    await jobs.enqueue(zombie.work.__qualname__)
    async with jobs.running(zombie.work, holding=zombie.holding):
        await asyncio.wait_for(zombie.over.wait(), 3)
        await asyncio.sleep(0.02)
    await jobs.redis.delete("arq:queue:interactive")
    assert zombie.calls == calls


async def test_nobody_waits_while_valkey_cannot_be_reached() -> None:
    holding = Holding(SystemClock())
    holding.renewed(0.0)
    waiting = asyncio.create_task(holding.until_sure())
    await asyncio.sleep(0)
    assert not waiting.done()
    holding.unknown()
    await asyncio.wait_for(waiting, 1)


async def test_an_answer_that_came_too_late_lets_nobody_go_on() -> None:
    holding = Holding(SystemClock())
    holding.renewed(time.monotonic() - 1)
    waiting = asyncio.create_task(holding.until_sure())
    await asyncio.sleep(0)
    holding.renewed(time.monotonic() - 0.5)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    holding.renewed(time.monotonic() + 5)
    await asyncio.wait_for(waiting, 1)
