"""Each sweep looks again and again; none waits for another, and none is told of twice for one trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from structlog.testing import capture_logs

from backend.clock import ManualClock
from backend.jobs.sweeper import Sweep, Sweeper


class Time:
    """A clock, and sleeps that end when it is moved past them."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        awake = asyncio.Event()
        self._sleepers.append((self.clock.monotonic() + seconds, awake))
        await awake.wait()

    async def move(self, seconds: float) -> None:
        self.clock.move(timedelta(seconds=seconds))
        for when, awake in self._sleepers:
            if when <= self.clock.monotonic():
                awake.set()
        await settle()


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Looking:
    def __init__(self, name: str, *outcomes: int | Exception) -> None:
        self.name = name
        self._outcomes = list(outcomes)
        self.at: list[datetime] = []

    async def sweep(self, now: datetime) -> int:
        self.at.append(now)
        outcome = self._outcomes.pop(0) if self._outcomes else 0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Stuck(Looking):
    async def sweep(self, now: datetime) -> int:
        self.at.append(now)
        await asyncio.Event().wait()
        return 0


@asynccontextmanager
async def sweeping(*sweeps: Sweep, time: Time, deadline: float = 30.0) -> AsyncIterator[None]:
    task = asyncio.create_task(Sweeper(sweeps, 1.0, clock=time.clock, deadline=deadline, sleep=time.sleep).run())
    await settle()
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_sweep_looks_at_once_and_then_each_time() -> None:
    time, one, other = Time(), Looking("one"), Looking("other")
    start = time.clock.now()
    async with sweeping(one, other, time=time):
        await time.move(1.1)
        await time.move(1.1)
    assert one.at == other.at == [start + timedelta(seconds=1.1 * number) for number in range(3)]


async def test_sweepers_do_not_stay_in_step() -> None:
    time = Time()
    sweeps = [Looking(f"{number}") for number in range(20)]
    async with sweeping(*sweeps, time=time):
        await time.move(1.0)  # every second plus or minus a tenth
        looked_twice = sum(len(sweep.at) == 2 for sweep in sweeps)
    assert 0 < looked_twice < 20


async def test_a_failing_sweep_stops_neither_itself_nor_the_others() -> None:
    time, bad, good = Time(), Looking("bad", ValueError(), ValueError()), Looking("good")
    async with sweeping(bad, good, time=time):
        await time.move(1.1)
        await time.move(1.1)
    assert len(bad.at) == len(good.at) == 3


async def test_a_stuck_sweep_is_ended_and_stops_nobody() -> None:
    time, stuck, good = Time(), Stuck("stuck"), Looking("good")
    # The deadline of a sweep is real time: asyncio's own.
    async with sweeping(stuck, good, time=time, deadline=0.02):
        await time.move(1.1)
        assert (len(stuck.at), len(good.at)) == (1, 2)
        await asyncio.sleep(0.05)
        await time.move(1.1)
        assert len(stuck.at) == 2


async def test_trouble_is_told_when_it_begins_changes_and_ends() -> None:
    time, bad = Time(), Looking("bad", ValueError(), ValueError(), KeyError(), 0, 0)
    with capture_logs() as entries:
        async with sweeping(bad, time=time):
            for _ in range(4):
                await time.move(1.1)
    assert [(entry["event"], entry.get("error")) for entry in entries] == [
        ("sweep.failing", "ValueError"),
        ("sweep.failing", "KeyError"),
        ("sweep.well_again", None),
    ]


async def test_what_was_found_is_told() -> None:
    time = Time()
    with capture_logs() as entries:
        async with sweeping(Looking("lost items", 3), time=time):
            pass
    assert entries == [{"event": "sweep.found", "sweep": "lost items", "found": 3, "log_level": "info"}]
