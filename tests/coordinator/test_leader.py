"""Of any number of coordinators one leads; the lead passes on when it is given up, lost, or silent.

Leases run on Valkey's clock, which no test can move: they are short instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from backend.clock import SystemClock
from backend.coordinator.leader import FENCE, LEADER, Leader, word_of
from backend.jobs.valkey import connect
from backend.logs import hidden

LEASE = 0.3


class Coordinators:
    """Leaders at one Valkey, and what their duties were told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = self.connect()
        self.tokens: list[int] = []
        self.at_work = 0
        self.most_at_work = 0

    def connect(self) -> Redis:
        return connect(self.url, timeout=0.2, pool=4)

    async def duties(self, token: int) -> None:
        self.tokens.append(token)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await asyncio.Event().wait()
        finally:
            self.at_work -= 1

    @asynccontextmanager
    async def competing(self, redis: Redis | None = None) -> AsyncIterator[tuple[Leader, asyncio.Task[None]]]:
        leader = Leader(redis=redis or self.redis, clock=SystemClock(), lease=LEASE)
        task = asyncio.create_task(leader.run(self.duties))
        try:
            yield leader, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], seconds: float = 5) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def leads(self) -> str | None:
        name = await self.redis.hget(LEADER, "name")
        return name.decode() if name else None


@pytest.fixture
async def coordinators(valkey_url: str) -> AsyncIterator[Coordinators]:
    built = Coordinators(valkey_url)
    yield built
    await built.redis.aclose()


async def test_one_leads_and_the_others_wait(coordinators: Coordinators) -> None:
    async with coordinators.competing() as (first, _):
        await coordinators.until(lambda: coordinators.at_work == 1)
        async with coordinators.competing(), coordinators.competing():
            await asyncio.sleep(LEASE * 2)  # longer than a lease: it is renewed
            assert (len(coordinators.tokens), await coordinators.leads()) == (1, first.name)


async def test_who_goes_gives_the_lead_up_at_once(coordinators: Coordinators) -> None:
    async with coordinators.competing() as (_, going):
        await coordinators.until(lambda: coordinators.at_work == 1)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        assert coordinators.at_work == 0
        assert await coordinators.leads() is None
    async with coordinators.competing():
        await coordinators.until(lambda: coordinators.at_work == 1)
    first, second = coordinators.tokens
    assert second > first, "each reign has a higher token"


async def test_who_is_silent_is_replaced_and_stops_before_that(coordinators: Coordinators) -> None:
    silent = coordinators.connect()
    async with coordinators.competing(silent) as (first, _):
        await coordinators.until(lambda: coordinators.at_work == 1)

        async def hangs(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        first._lead = hangs  # type: ignore[assignment]  # this one's Valkey is frozen
        async with coordinators.competing() as (second, _):
            await coordinators.until(lambda: len(coordinators.tokens) == 2)
            assert await coordinators.leads() == second.name
    assert coordinators.most_at_work == 1
    await silent.aclose()


async def test_who_lost_the_lead_steps_down_and_competes_again(coordinators: Coordinators) -> None:
    async with coordinators.competing() as (leader, _):
        await coordinators.until(lambda: coordinators.at_work == 1)
        await coordinators.redis.hset(LEADER, mapping={"name": "another", "token": "9"})
        await coordinators.until(lambda: coordinators.at_work == 0)
        await coordinators.until(lambda: coordinators.at_work == 1)
        assert await coordinators.leads() == leader.name
    assert coordinators.most_at_work == 1


async def test_a_wiped_valkey_starts_a_new_reign(coordinators: Coordinators) -> None:
    async with coordinators.competing():
        await coordinators.until(lambda: coordinators.at_work == 1)
        await coordinators.redis.flushall()
        await coordinators.until(lambda: coordinators.at_work == 1 and bool(coordinators.tokens))
        await asyncio.sleep(LEASE)
        assert coordinators.at_work == 1


async def test_a_valkey_that_is_away_ends_the_reign_and_not_the_process(coordinators: Coordinators) -> None:
    async with coordinators.competing(connect("redis://127.0.0.1:1", timeout=0.1, pool=2)) as (_, task):
        await asyncio.sleep(LEASE)
        assert not task.done()
        assert coordinators.tokens == []


async def test_duties_that_fail_end_the_reign_and_are_heard_of(coordinators: Coordinators) -> None:
    async def fails(_: int) -> None:
        raise LookupError("a fault of ours")

    leader = Leader(redis=coordinators.redis, clock=SystemClock(), lease=LEASE)
    with pytest.raises(LookupError):
        await asyncio.wait_for(leader.run(fails), 5)
    assert await coordinators.leads() is None, "another may try"


async def test_a_leader_that_is_told_to_end_while_it_steps_down_does_end(coordinators: Coordinators) -> None:
    stepping_down = asyncio.Event()

    async def clears_up(_: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stepping_down.set()
            await asyncio.sleep(0.05)

    leader = Leader(redis=coordinators.redis, clock=SystemClock(), lease=LEASE)
    task = asyncio.create_task(leader.run(clears_up))
    async with asyncio.timeout(5):
        while await coordinators.leads() != leader.name:
            await asyncio.sleep(0.005)
        await coordinators.redis.hset(LEADER, "name", "another")
        await stepping_down.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_no_two_reigns_have_one_token_though_valkey_lost_its_last_second(coordinators: Coordinators) -> None:
    async with coordinators.competing():
        await coordinators.until(lambda: len(coordinators.tokens) == 1)
    before = await coordinators.redis.dump(FENCE)
    async with coordinators.competing():
        await coordinators.until(lambda: len(coordinators.tokens) == 2)
        await coordinators.redis.restore(FENCE, 0, before, replace=True)
        await coordinators.redis.delete(LEADER)
        async with coordinators.competing(), coordinators.competing():
            await coordinators.until(lambda: len(coordinators.tokens) > 2)
    assert len(set(coordinators.tokens)) == len(coordinators.tokens)


@pytest.mark.parametrize("token", [1, 1_795_388_840_327, 1_795_388_840_327_123, 0x1234567890123])
def test_a_log_line_can_show_a_token(token: int) -> None:
    assert hidden(word_of(token)) == word_of(token)


async def test_whoever_starts_without_valkey_is_told_once_why_nothing_happens(
    coordinators: Coordinators, capsys: pytest.CaptureFixture[str]
) -> None:
    async with coordinators.competing(connect("redis://127.0.0.1:1", timeout=0.2, pool=1)):
        await asyncio.sleep(LEASE)  # a lease's thirds
    assert capsys.readouterr().out.count("leader.not_decided") == 1
    assert coordinators.tokens == []
