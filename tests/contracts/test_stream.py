"""The exam of the stream of outcomes, the same for the one in Valkey and its twin in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Protocol

import pytest
from redis.asyncio import Redis

from backend.clock import ManualClock
from backend.coordinator.stream import (
    LOG,
    NEWEST,
    OLDEST,
    Mark,
    MemoryStream,
    ModesChanged,
    ProbeGivenBack,
    ProbeWanted,
    Stream,
    StreamedReports,
    ValkeyStream,
    Word,
)
from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import CallEnded, Circuit, Report
from backend.providers.outcomes import Weight
from backend.providers.traffic import Rollup, Seen

CIRCUIT = Circuit("A", Scope.READ)


class Subject(Protocol):
    stream: Stream

    def bounded(self, most_entries: int) -> Stream: ...

    async def lose(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.stream: MemoryStream = self._made(50_000)

    def bounded(self, most_entries: int) -> Stream:
        self.stream = self._made(most_entries)
        return self.stream

    async def lose(self) -> None:
        self.stream.forget()

    def _made(self, most_entries: int) -> MemoryStream:
        return MemoryStream(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)), most_entries=most_entries)


class InValkey:
    def __init__(self, url: str) -> None:
        self.redis = connect(url, timeout=3.0, pool=4)
        self.stream = ValkeyStream(self.redis)

    def bounded(self, most_entries: int) -> Stream:
        return ValkeyStream(self.redis, most_entries=most_entries)

    async def lose(self) -> None:
        await self.redis.flushall()


@pytest.fixture(params=["memory", "valkey"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    real = InValkey(request.getfixturevalue("valkey_url"))
    yield real
    await real.redis.aclose()


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    client = connect(valkey_url, timeout=1.0, pool=4)
    yield client
    await client.aclose()


@pytest.fixture
def stream(subject: Subject) -> Stream:
    return subject.stream


def report(number: int) -> Report:
    return Report(node="n", number=number, calls=(CallEnded(CIRCUIT, 3, Weight.FAILURE, 12.0, 4.0, None, "http_503"),))


async def words(stream: Stream, after: str) -> tuple[list[Word | Mark], str]:
    """Everything that follows, and where that ends."""
    found: list[Word | Mark] = []
    while entries := await stream.read(after, 0):
        found += [entry.word for _, entry in entries]
        after = entries[-1][0]
    return found, after


async def test_words_come_back_as_they_were_said_and_in_order(stream: Stream) -> None:
    rollup = Rollup(
        org_code="A", api_code="BA01", scheduled=False, hour=0, calls=1, successes=1, failures={}, cancelled=0, slow=0, ms=5,
        ms_squared=25, histogram=(1,),
    )  # fmt: skip
    said: list[Word] = [
        report(1),
        Report(
            node="n",
            number=2,
            calls=(),
            dropped=1,
            rollups=(rollup,),
            seen=(Seen(org_code="A", scheduled=False, day=1, users=("u",)),),
            waited_ms=7,
        ),
        ProbeWanted(circuit=CIRCUIT, name="n"),
        ProbeGivenBack(circuit=CIRCUIT, name="n", fence=9),
        ModesChanged(),
    ]
    for word in said:
        await stream.append(word)
    assert (await words(stream, OLDEST))[0] == said


async def test_a_reader_goes_on_behind_what_it_read(stream: Stream) -> None:
    for number in range(150):
        await stream.append(report(number))
    first = await stream.read(OLDEST, 0)
    assert 0 < len(first) < 150, "one reading is bounded"
    rest, end = await words(stream, first[-1][0])
    assert [word.number for _, entry in first if isinstance(word := entry.word, Report)] + [
        word.number for word in rest if isinstance(word, Report)
    ] == list(range(150))
    assert await stream.read(end, 0) == []


async def test_whoever_wants_only_what_comes_misses_nothing_of_it(stream: Stream) -> None:
    await stream.append(report(1))
    [(end, entry)] = await stream.read(NEWEST, 5)
    assert entry.word == Mark(0)
    await stream.append(report(2))
    assert (await words(stream, end))[0] == [report(2)]


async def test_the_end_of_nothing_is_a_place_to_begin_at(stream: Stream) -> None:
    [(end, _)] = await stream.read(NEWEST, 0)
    await stream.append(report(1))
    assert (await words(stream, end))[0] == [report(1)]


async def test_a_reader_is_woken(stream: Stream) -> None:
    [(end, _)] = await stream.read(NEWEST, 0)
    reading = asyncio.create_task(stream.read(end, 2.0))
    await asyncio.sleep(0.02)  # it waits by now
    await stream.append(report(1))
    assert [entry.word for _, entry in await asyncio.wait_for(reading, 1)] == [report(1)]


async def test_a_wait_ends(stream: Stream) -> None:
    [(end, _)] = await stream.read(NEWEST, 0)
    async with asyncio.timeout(1):
        assert await stream.read(end, 0.02) == []


async def test_readers_do_not_disturb_each_other(stream: Stream) -> None:
    await stream.append(report(1))
    assert (await words(stream, OLDEST))[0] == (await words(stream, OLDEST))[0] == [report(1)]


async def test_who_is_too_slow_is_told_how_much_is_gone(subject: Subject) -> None:
    stream = subject.bounded(100)
    await stream.append(report(1))
    _, after = await words(stream, OLDEST)
    for number in range(2, 1002):
        await stream.append(report(number))
    found, _ = await words(stream, after)
    missed = found[0]
    assert isinstance(missed, Mark)
    assert missed.missed
    assert missed.missed + len(found) - 1 == 1000
    assert len(found) <= 300, "it is bounded, if not to the last entry"


@pytest.mark.parametrize("again", [0, 1, 5])
async def test_a_lost_log_is_told_and_what_comes_after_is_read(subject: Subject, again: int) -> None:
    for number in range(3):
        await subject.stream.append(report(number))
    _, after = await words(subject.stream, OLDEST)
    await subject.lose()
    for number in range(10, 10 + again):
        await subject.stream.append(report(number))
    found: list[Word | Mark] = []
    for _ in range(3):
        entries = await subject.stream.read(after, 0)
        found += [entry.word for _, entry in entries]
        after = entries[-1][0] if entries else after
    assert found[0] == Mark(None)
    assert [word for word in found if not isinstance(word, Mark)] == [report(10 + number) for number in range(again)]


async def test_of_another_log_nothing_is_passed_over_that_was_said_in_the_cursors_own_millisecond(redis: Redis) -> None:
    stream = ValkeyStream(redis)
    for number in range(3):
        await stream.append(report(number))
    _, after = await words(stream, OLDEST)
    await redis.flushall()
    await stream.append(report(10))
    [(_, fields)] = await redis.xrange(LOG)
    await redis.delete(LOG)
    await redis.xadd(LOG, fields, id=after.partition("/")[0])  # wiped, and said again, within one millisecond
    await stream.append(report(11))
    assert (await words(stream, after))[0] == [Mark(None), report(10), report(11)]


async def test_a_log_is_bounded_by_the_size_of_its_words(redis: Redis) -> None:
    stream = ValkeyStream(redis, most_bytes=20_000)
    large = Report(node="n" * 1_000, number=1, calls=())
    for _ in range(600):
        await stream.append(large)
    assert await redis.xlen(LOG) <= 200
    found, _ = await words(stream, OLDEST)
    assert isinstance(found[0], Mark)
    assert found[0].missed


async def test_what_nobody_understands_is_passed_over(redis: Redis) -> None:
    stream = ValkeyStream(redis)
    await redis.hincrby("moa:circuits:v1:{said}:head", "entries", 2)
    await redis.xadd(LOG, {"k": "later", "n": 1, "b": 1, "w": b"x"})
    await redis.xadd(LOG, {"k": "report", "n": 2, "b": 2, "w": b"\xc1"})
    await stream.append(report(3))
    assert (await words(stream, OLDEST))[0] == [Mark(1), Mark(1), report(3)]


async def test_an_engine_that_is_away_is_told_as_that() -> None:
    away = ValkeyStream(connect("unix:///nowhere/valkey.sock", timeout=0.2, pool=2))
    with pytest.raises(EngineUnavailable):
        await StreamedReports(away).send(report(1))
    with pytest.raises(EngineUnavailable):
        await away.read(OLDEST, 0.1)
    with pytest.raises(EngineUnavailable):
        await away.read(NEWEST, 0.1)
