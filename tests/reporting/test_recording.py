"""However reports come, and whoever is killed over them: each is in the sums once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from backend.coordinator.stream import MemoryStream, ModesChanged, ValkeyStream
from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect
from backend.providers.circuits import Report
from backend.reporting import recording as module
from backend.storage import traffic
from backend.storage.database import Database
from backend.storage.statements import Connection
from tests.reporting.given import BANK, CARD, CLOCK, NOW_MS, Call, everything, named, recording, report, rolled, sums, tell, users
from tests.storage.given import empty

HOUR = 3_600_000

CALLS = st.builds(
    Call,
    org_code=st.sampled_from([BANK, CARD]),
    api_code=st.sampled_from(["BA01", "AU02"]),
    scheduled=st.booleans(),
    began_ms=st.sampled_from([NOW_MS, NOW_MS - HOUR, NOW_MS - 24 * HOUR]),
    user=st.sampled_from([None, "a" * 22, "b" * 22]),
    took_ms=st.integers(0, 30_000),
    reason=st.sampled_from([None, "50001", "deadline"]),
    slow=st.booleans(),
    cancelled=st.booleans(),
)
FLEETS = st.dictionaries(st.sampled_from(["one", "two"]), st.lists(st.lists(CALLS, max_size=4), min_size=1, max_size=5), min_size=1)


def told(fleet: dict[str, list[list[Call]]]) -> list[Report]:
    return [report(node, number, *calls) for node, each in fleet.items() for number, calls in enumerate(each, 1)]


def memory() -> MemoryStream:
    return MemoryStream(CLOCK)


class Killed(BaseException):
    """What a killed process does next: nothing."""


class Doomed(Database):
    """Dies at the given of its writes: before the statement, or after it and before the answer."""

    def __init__(self, database: Database, *, at: int, after: bool) -> None:
        self._real, self._left, self._after = database, at, after

    def reading(self) -> Any:
        return self._real.reading()

    async def single(self, deed: Callable[[Connection], Awaitable[Any]]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        done = await self._real.single(deed)
        if self._left == 0:
            raise Killed
        return done


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fleet=FLEETS, seed=st.randoms(use_true_random=False), dies_at=st.integers(1, 4), after=st.booleans(), wiped=st.booleans())
async def test_each_report_counts_once_in_any_order_however_often_it_comes_and_whoever_dies(
    fleet: dict[str, list[list[Call]]],
    seed: random.Random,
    dies_at: int,
    after: bool,
    wiped: bool,
    database: Database,
    shared_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_REPORTS", 3)
    await empty(shared_url)
    reports = told(fleet)
    coming = [each for each in reports for _ in range(seed.randint(1, 3))]
    seed.shuffle(coming)
    stream, doomed = memory(), Doomed(database, at=dies_at, after=after)
    half = len(coming) // 2
    await tell(stream, *coming[:half])
    try:
        await everything(recording(stream, doomed))
    except Killed:
        await everything(recording(stream, database))
    if wiped:
        stream.forget()
    await tell(stream, *coming[half:])
    await everything(recording(stream, database))
    await everything(recording(stream, database))
    assert await sums(database) == rolled(reports)
    assert await users(database) == named(reports)


async def test_two_writers_at_once_count_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPORTS", 5)
    stream = memory()
    reports = [report(f"n{number % 3}", number // 3 + 1, Call(took_ms=number, user=f"{number % 7:022d}")) for number in range(120)]
    await tell(stream, *reports)
    await asyncio.gather(*(everything(recording(stream, database)) for _ in range(4)))
    assert await sums(database) == rolled(reports)
    assert await users(database) == named(reports)


async def test_a_leader_that_comes_back_late_writes_nothing_and_does_not_take_the_cursor_back(database: Database) -> None:
    stream = memory()
    first, second = report("n", 1, Call()), report("n", 2, Call())
    await tell(stream, first)

    class Frozen(Doomed):
        """Stops before its write, and goes on when another has long gone on."""

        async def single(self, deed: Callable[[Connection], Awaitable[Any]]) -> Any:
            self._left -= 1
            if self._left == 0:
                await tell(stream, second)
                await everything(recording(stream, self._real))
            return await self._real.single(deed)

    late = recording(stream, Frozen(database, at=1, after=False))
    await late.record()
    async with database.reading() as connection:
        before = await traffic.held(connection)
    assert before.position.endswith("/2")
    await everything(late)
    assert await sums(database) == rolled([first, second])


async def test_a_report_that_cannot_be_used_stops_no_other(database: Database) -> None:
    stream = memory()
    good = [report("n", number, Call()) for number in (1, 3, 4)]
    bad = report("n", 2, Call(org_code="\0"))
    await tell(stream, good[0], bad, *good[1:])
    await everything(recording(stream, database))
    assert await sums(database) == rolled(good)
    async with database.reading() as connection:
        held = await traffic.held(connection, ["n"])
    assert held.counted == {"n": (range(1, 2), range(3, 5))}


async def test_engines_that_are_away_are_waited_for_longer_and_longer(database: Database) -> None:
    answers = iter([False, False, False, False, False, False, True])
    real = memory()
    await tell(real, report("n", 1, Call()))

    class Away:
        async def read(self, after: str, wait: float) -> Any:
            if not next(answers, True):
                raise EngineUnavailable("Valkey")
            return await real.read(after, wait)

    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    recorder = module.Recording(stream=Away(), database=database, clock=CLOCK, oldest="0-0/0", sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await recorder.run()
    assert all(module.PAUSES[0] / 2 <= pause <= module.PAUSES[1] for pause in pauses[:6])
    assert pauses[5] > pauses[0]
    assert pauses[6:] == [module.EVERY, module.EVERY]
    assert await sums(database) == rolled([report("n", 1, Call())])


@pytest.fixture
async def redis(valkey_url: str) -> Any:
    client: Redis = connect(valkey_url, timeout=5, pool=5)
    yield client
    await client.aclose()


async def test_over_valkey_nothing_counts_twice_when_it_forgets_everything(database: Database, redis: Redis) -> None:
    stream = ValkeyStream(redis)
    reports = [report("n", number, Call(took_ms=number)) for number in range(1, 201)]
    recorder = recording(stream, database)
    await tell(stream, *reports[:150])
    await everything(recorder)
    assert await sums(database) == rolled(reports[:150])
    await redis.flushall()
    await tell(stream, *reports[140:])  # the node was not sure of ten of them
    await everything(recorder)
    await everything(recorder)
    assert await sums(database) == rolled(reports)


async def test_a_wiped_stream_that_is_shorter_than_the_old_one_is_read_from_its_beginning(database: Database, redis: Redis) -> None:
    stream = ValkeyStream(redis)
    recorder = recording(stream, database)
    await tell(stream, *(report("n", number, Call()) for number in range(1, 51)))
    await everything(recorder)
    await redis.flushall()
    await everything(recorder)
    await tell(stream, report("n", 51, Call()))
    await everything(recorder)
    ((rollup,),) = [list((await sums(database)).values())]
    assert rollup.calls == 51


async def test_words_that_are_no_reports_only_move_the_cursor(database: Database) -> None:
    stream = memory()
    await stream.append(ModesChanged())
    await everything(recording(stream, database))
    assert await sums(database) == {}
    async with database.reading() as connection:
        assert (await traffic.held(connection)).position.endswith("/1")


async def test_a_user_is_counted_once_a_day_institution_and_asker(database: Database) -> None:
    stream = memory()
    day = 24 * HOUR
    whole = [
        report("n", 1, Call(user="a" * 22), Call(user="a" * 22, api_code="BA02"), Call(user="b" * 22)),
        report("m", 1, Call(user="a" * 22), Call(user="a" * 22, scheduled=True), Call(user="a" * 22, org_code=CARD)),
        report("m", 2, Call(user="a" * 22, began_ms=NOW_MS - day)),
    ]
    await tell(stream, *whole)
    await everything(recording(stream, database))
    today = NOW_MS // day
    assert await users(database) == {(BANK, False, today): 2, (BANK, True, today): 1, (CARD, False, today): 1, (BANK, False, today - 1): 1}


async def test_users_of_days_that_nobody_may_be_forgotten_for_are_left_out(database: Database) -> None:
    stream = memory()
    days = [report("n", number, Call(user="a" * 22, began_ms=NOW_MS - number * 24 * HOUR)) for number in range(7, 10)]
    await tell(stream, *days)
    await everything(recording(stream, database))
    assert await users(database) == named(days[:1])
    assert await sums(database) == rolled(days)
