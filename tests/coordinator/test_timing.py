"""One clock for the whole fleet: however wrong a machine's is, what it reports counts in the hour and on the day in which it happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from backend.clock import Clock, ManualClock, SystemClock
from backend.coordinator.node import following
from backend.coordinator.options import Options
from backend.coordinator.stream import OLDEST, StreamedReports, ValkeyStream
from backend.coordinator.timing import DOUBTFUL, ByFleetClock, FleetClock
from backend.jobs.valkey import connect
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed, Noticing
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit
from backend.providers.contract import ApiType
from backend.providers.outcomes import Weight
from backend.realtime.channels import dialer
from backend.reporting.figures import day_of, whole_hours
from backend.reporting.reading import Traffic
from backend.reporting.recording import Recording
from backend.storage.database import Database

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
NOON_MS = NOON.timestamp() * 1000
BANK = "A1MOABK001"


class Wrong(SystemClock):
    """A machine whose clock is off."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


def test_until_valkey_has_answered_it_is_the_machines_time() -> None:
    clock = FleetClock(ManualClock(NOON))
    assert clock.now() == NOON
    assert not clock.known.is_set()


def test_then_it_is_valkeys_time_carried_on() -> None:
    machine = ManualClock(NOON - timedelta(days=3))
    clock = FleetClock(machine)
    clock.told(NOON_MS, asked=machine.monotonic())
    machine.move(timedelta(seconds=90))
    assert clock.now() == NOON + timedelta(seconds=90)
    assert clock.known.is_set()


def test_a_question_was_answered_halfway_between_asking_and_hearing() -> None:
    machine = ManualClock(NOON)
    clock = FleetClock(machine)
    machine.move(timedelta(seconds=0.4))
    clock.told(NOON_MS, asked=0.0)
    assert clock.now() == NOON + timedelta(seconds=0.2)


def test_an_answer_that_was_heard_late_moves_no_clock_that_is_known() -> None:
    machine = ManualClock(NOON)
    clock = FleetClock(machine)
    clock.told(NOON_MS, asked=0.0)
    machine.move(timedelta(seconds=30))
    clock.told(NOON_MS, asked=30 - DOUBTFUL * 1.1)
    assert clock.now() == NOON + timedelta(seconds=30)
    clock.told(NOON_MS + 31_000, asked=30.0)
    assert clock.now() == NOON + timedelta(seconds=31)


async def test_a_sweep_of_what_is_too_old_waits_until_the_time_is_known() -> None:
    moments: list[datetime] = []

    class Sweep:
        name = "old"

        async def sweep(self, now: datetime) -> int:
            moments.append(now)
            return 3

    clock = FleetClock(ManualClock(NOON + timedelta(days=900)))
    sweep = ByFleetClock(Sweep(), clock)
    assert (await sweep.sweep(NOON), moments) == (0, [])
    clock.told(NOON_MS, asked=0.0)
    assert (await sweep.sweep(NOON + timedelta(days=900)), moments) == (3, [NOON])


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    client = connect(valkey_url, timeout=5, pool=10)
    yield client
    await client.aclose()


@asynccontextmanager
async def in_time(redis: Redis, machine: Clock) -> AsyncIterator[FleetClock]:
    """A process's clock, as its ear keeps it."""
    clock = FleetClock(machine)
    ear = following(valkey=redis, dial=dialer(redis), mirrors=Mirrors(machine), options=Options(), clock=clock)
    hearing = asyncio.create_task(ear.run())
    await asyncio.wait_for(ear.informed.wait(), 5)
    yield clock
    hearing.cancel()
    await asyncio.gather(hearing, return_exceptions=True)


async def test_calls_count_in_their_hour_and_on_their_day_whatever_the_machines_clocks_say(redis: Redis, database_url: str) -> None:
    """Nodes that are hours ahead and days behind, and a coordinator that is a month ahead, to which every day would be too old."""
    began = SystemClock().now()
    for number, off in enumerate((timedelta(0), timedelta(hours=3), timedelta(days=-2), timedelta(days=40))):
        async with (
            in_time(redis, Wrong(off)) as clock,
            Noticing(StreamedReports(ValkeyStream(redis)), clock, node=f"n{number}") as noticing,
        ):
            at, api = clock.monotonic() - 0.02, ApiType.USER_REFRESH
            noticing.notice(Noticed(Circuit(BANK, Scope.READ), 0, Weight.OK, at, 0.02, "BA01", api, None, f"{number:022d}"))
    database = Database(database_url, pool=2)
    async with in_time(redis, Wrong(timedelta(days=30))) as clock:
        await Recording(stream=ValkeyStream(redis), database=database, clock=clock, oldest=OLDEST).record()
    traffic, ended = Traffic(database=database), SystemClock().now()
    days = {day_of(began), day_of(ended)}  # midnight may pass
    hours = [each for day in days for each in await traffic.by_hour(day)]
    users = [each.users for day in days for each in await traffic.users(day)]
    await database.close()
    assert sum(each.sums.calls for each in hours) == sum(users) == 4
    assert {each.hour for each in hours} <= {whole_hours(began), whole_hours(ended)}
