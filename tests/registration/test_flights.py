"""One flight per link: the next waits for the end of the one before, or for its silence, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from backend.jobs.valkey import connect
from backend.registration.flights import SingleFlight

LEASE = 0.3  # seconds; real time, since it is Valkey's


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    async with connect(valkey_url, timeout=5, pool=10) as client:
        yield client


@pytest.fixture
def flights(redis: Redis) -> SingleFlight:
    return SingleFlight(redis=redis, lease=LEASE)


async def fly(flights: SingleFlight, diary: list[str], name: str, seconds: float = 0.0, org_code: str = "A1MOABK001") -> None:
    async with await flights.begin("anna", org_code):
        diary.append(f"{name} begins")
        await asyncio.sleep(seconds)
        diary.append(f"{name} ends")


async def test_a_flight_that_takes_longer_than_its_lease_stays_alone(flights: SingleFlight) -> None:
    diary: list[str] = []
    await asyncio.gather(*(fly(flights, diary, name, LEASE * 2) for name in "ab"))
    assert diary in (["a begins", "a ends", "b begins", "b ends"], ["b begins", "b ends", "a begins", "a ends"])


async def test_another_provider_waits_for_nobody(flights: SingleFlight) -> None:
    diary: list[str] = []
    await asyncio.gather(fly(flights, diary, "a", LEASE / 2), fly(flights, diary, "b", org_code="B1MOACD001"))
    assert diary.index("b ends") < diary.index("a ends")


async def test_a_holder_that_falls_silent_is_replaced_after_one_lease(flights: SingleFlight, redis: Redis) -> None:
    diary: list[str] = []
    async with await flights.begin("anna", "A1MOABK001"):
        (key,) = await redis.keys("*flight*")
    await redis.set(key, "somebody who was killed", px=round(LEASE * 1000))
    async with asyncio.timeout(LEASE * 3):
        await fly(flights, diary, "b")
    assert diary == ["b begins", "b ends"]


async def test_a_flight_goes_on_alone_after_valkey_has_forgotten_it(flights: SingleFlight, redis: Redis) -> None:
    diary: list[str] = []
    first = asyncio.create_task(fly(flights, diary, "a", LEASE * 3))
    while not diary:
        await asyncio.sleep(0.005)
    await redis.flushall()
    await asyncio.sleep(LEASE * 0.8)  # until it has said so again
    await asyncio.gather(first, fly(flights, diary, "b"))
    assert diary == ["a begins", "a ends", "b begins", "b ends"]


async def test_whoever_was_overtaken_ends_nobody_elses_flight(flights: SingleFlight, redis: Redis) -> None:
    async with await flights.begin("anna", "A1MOABK001"):
        (key,) = await redis.keys("*flight*")
        await redis.set(key, "another", px=5000)
    assert await redis.get(key) == b"another"
