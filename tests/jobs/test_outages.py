"""A Valkey that restarts, freezes or forgets: no worker ends, no job is lost, and the listener misses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Blocking

from backend.engines import Engine, start_valkey


class Mortal:
    """A Valkey of this test alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.engine: Engine = start_valkey(folder)

    def stop(self) -> None:
        self.engine.stop()

    def start(self) -> None:
        self.engine = start_valkey(self._folder)

    def freeze(self) -> None:
        os.kill(self.engine.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.engine.pid, signal.SIGCONT)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    valkey = Mortal(tmp_path)
    yield valkey
    valkey.stop()


@pytest.fixture
async def own_jobs(mortal: Mortal, jobs: Any) -> AsyncIterator[Any]:
    here = type(jobs)(mortal.engine.url)
    yield here
    await here.redis.aclose()


async def test_a_restart_loses_no_job_and_ends_no_worker(mortal: Mortal, own_jobs: Any) -> None:
    done: list[str] = []

    async def work(ctx: dict[str, Any]) -> None:
        await asyncio.sleep(0.01)
        done.append(ctx["job_id"])

    async def enqueue(name: str) -> None:
        for number in range(20):
            await own_jobs.enqueue(work.__qualname__, job_id=f"{name}-{number}")

    async with own_jobs.running(work, max_jobs=5, lease=1.0):
        await enqueue("before")
        await own_jobs.until(lambda: done)
        await asyncio.to_thread(mortal.stop)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(mortal.start)
        await enqueue("after")
        await own_jobs.emptied()
    assert set(done) == {f"{name}-{number}" for name in ("before", "after") for number in range(20)}


async def test_a_job_that_ends_while_valkey_is_away_is_settled_when_it_is_back(mortal: Mortal, own_jobs: Any) -> None:
    started: list[int] = []
    release = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        started.append(ctx["job_try"])
        await release.wait()

    await own_jobs.enqueue(work.__qualname__)
    async with own_jobs.running(work, lease=30) as worker:
        await own_jobs.until(lambda: started)
        await asyncio.sleep(1.1)  # the append-only file is flushed each second: Valkey remembers the claim
        await asyncio.to_thread(mortal.stop)
        release.set()
        await asyncio.sleep(0.2)
        assert worker.jobs_complete == 0
        await asyncio.to_thread(mortal.start)
        await own_jobs.emptied()
        await own_jobs.until(lambda: worker.jobs_complete == 1)
    assert started == [1]
    assert await own_jobs.keys() == set()


async def test_a_frozen_valkey_is_waited_out(mortal: Mortal, own_jobs: Any) -> None:
    started: list[str] = []
    release = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        started.append(ctx["job_id"])
        await release.wait()

    await own_jobs.enqueue(work.__qualname__, job_id="held")
    async with own_jobs.running(work, lease=0.3):
        await own_jobs.until(lambda: started)
        mortal.freeze()
        try:
            await asyncio.sleep(1.3)  # longer than the lease and than a command may take
        finally:
            mortal.thaw()
        release.set()
        await own_jobs.enqueue(work.__qualname__, job_id="next")
        await own_jobs.emptied()
    assert sorted(started) == ["held", "next"]  # the lease had run out, and the worker went on with its own job


async def test_a_valkey_that_forgot_everything_is_told_again_who_has_which_job(jobs: Any) -> None:
    started: list[str] = []
    release = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        started.append(ctx["job_id"])
        if ctx["job_id"] == "old":
            await release.wait()

    await jobs.enqueue(work.__qualname__, job_id="old")
    async with jobs.running(work), jobs.running(work):
        await jobs.until(lambda: started)
        await jobs.redis.flushall()
        async with asyncio.timeout(2):
            while not await jobs.redis.exists("arq:in-progress:old"):
                await asyncio.sleep(0.002)
        assert await jobs.enqueue(work.__qualname__, job_id="old") == 0  # as the sweeper asks for it
        await jobs.enqueue(work.__qualname__, job_id="new")
        await asyncio.sleep(0.4)  # more than a lease
        release.set()
        await jobs.emptied()
    assert started == ["old", "new"]
    assert await jobs.keys() == set()


async def test_a_job_that_others_ended_while_its_worker_stood_still_is_not_taken_anew(jobs: Any) -> None:
    cancelled = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        with Blocking.from_url(jobs.url) as valkey:  # blocks the loop, as a freeze does
            time.sleep(0.35)  # noqa: ASYNC251  # longer than its lease
            valkey.delete("arq:job:job", "arq:in-progress:job", "arq:retry:job", "arq:queue:interactive")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await jobs.enqueue(work.__qualname__)
    async with jobs.running(work):
        await asyncio.wait_for(cancelled.wait(), 2)
        assert await jobs.keys() == set()


async def test_a_job_that_comes_while_the_listener_reconnects_is_not_lost(jobs: Any) -> None:
    started: list[str] = []

    async def work(ctx: dict[str, Any]) -> None:
        started.append(ctx["job_id"])

    async with jobs.running(work):
        for number in range(5):
            await asyncio.sleep(0.01)
            await jobs.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await jobs.enqueue(work.__qualname__, job_id=f"{number}")
        await jobs.emptied()
    assert sorted(started) == ["0", "1", "2", "3", "4"]


async def test_a_worker_can_start_before_valkey_does(mortal: Mortal, own_jobs: Any) -> None:
    ran = asyncio.Event()

    async def work(ctx: dict[str, Any]) -> None:
        ran.set()

    await asyncio.to_thread(mortal.stop)
    async with own_jobs.running(work):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(mortal.start)
        await own_jobs.enqueue(work.__qualname__)
        await asyncio.wait_for(ran.wait(), 5)


async def test_a_worker_stops_in_time_while_valkey_is_away(mortal: Mortal, own_jobs: Any) -> None:
    async def work(ctx: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    await own_jobs.enqueue(work.__qualname__)
    async with asyncio.timeout(8), own_jobs.running(work, drain=0.1, lease=30) as worker:
        await own_jobs.until(lambda: worker.tasks)
        await asyncio.to_thread(mortal.stop)
    await asyncio.to_thread(mortal.start)
