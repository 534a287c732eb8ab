"""What only the feed in Valkey can show: lives, lost tails, and a server that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from backend.errors import EngineUnavailable
from backend.events import Appended, Position
from backend.jobs.valkey import connect
from backend.realtime.feed import LIFE_SECONDS, Feed, channel
from backend.realtime.merging import decode

ANNA = "anna"
HEAD, LOG = (channel(ANNA).removesuffix("live") + part for part in ("head", "log"))


async def nothing_relayed(user_id: str) -> int:
    return 0


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    client = connect(valkey_url, timeout=5, pool=4)
    yield client
    await client.aclose()


async def test_events_live_a_day_and_numbers_two(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed)
    await feed.append(ANNA, [(1, b"{}")])
    assert LIFE_SECONDS - 5 < await redis.ttl(LOG) <= LIFE_SECONDS
    assert 2 * LIFE_SECONDS - 5 < await redis.ttl(HEAD) <= 2 * LIFE_SECONDS


async def test_reading_keeps_the_numbers_alive_but_not_the_events(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed)
    await feed.append(ANNA, [(1, b"{}")])
    await redis.expire(HEAD, 60)
    await redis.expire(LOG, 60)
    await feed.position(ANNA)
    assert await redis.ttl(HEAD) > LIFE_SECONDS
    assert await redis.ttl(LOG) <= 60


async def test_an_append_drops_what_is_too_old_even_if_the_feed_is_busy(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed, life=100)
    start = await feed.position(ANNA)
    long_ago = int(time.time() * 1000) - 101_000
    await redis.xadd(LOG, {"t": long_ago, "e": b"{}"}, id="1-0")
    await redis.hset(HEAD, "top", 1)
    await feed.append(ANNA, [(2, b"{}"), (3, b"{}")])
    assert await redis.xlen(LOG) == 2
    assert not (await feed.read(ANNA, start)).recovered


async def test_a_feed_whose_events_have_died_keeps_its_position(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed)
    start = await feed.position(ANNA)
    await feed.append(ANNA, [(1, b"{}")])
    top = await feed.position(ANNA)
    await redis.delete(LOG)
    assert (await feed.read(ANNA, top)).recovered
    assert not (await feed.read(ANNA, start)).recovered
    assert await feed.append(ANNA, [(2, b"{}")]) == Appended(Position(top.epoch, 2))


async def test_after_a_restart_that_lost_nothing_the_epoch_stays(redis: Redis) -> None:
    asked: list[str] = []

    async def relayed(user_id: str) -> int:
        asked.append(user_id)
        return 2

    feed = Feed(redis=redis, relayed=relayed)
    await feed.append(ANNA, [(1, b"{}"), (2, b"{}")])
    before = await feed.position(ANNA)
    assert asked == []
    await redis.hset(HEAD, "run", "the server before this one")
    assert await feed.position(ANNA) == before
    assert await feed.position(ANNA) == before
    assert asked == [ANNA], "one look at PostgreSQL per restart is enough"


async def test_after_a_restart_that_lost_the_tail_the_epoch_changes_although_nothing_new_happens(redis: Redis) -> None:
    async def relayed(user_id: str) -> int:
        return 3

    feed = Feed(redis=redis, relayed=relayed)
    await feed.append(ANNA, [(1, b"{}"), (2, b"{}")])
    before = await feed.position(ANNA)
    await redis.hset(HEAD, "run", "the server before this one")
    got = await feed.read(ANNA, before)
    assert not got.recovered
    assert got.position.offset == 3
    assert got.position.epoch != before.epoch


async def test_each_append_is_announced_once_with_its_new_events(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed)
    async with redis.pubsub() as listening:
        await listening.subscribe(channel(ANNA))
        await listening.get_message(timeout=1)
        start = await feed.position(ANNA)
        await feed.append(ANNA, [(1, b'{"a":1}'), (2, b'{"a":2}')])
        await feed.append(ANNA, [(2, b'{"a":2}')])
        await feed.append(ANNA, [(2, b'{"a":2}'), (3, b'{"a":3}')])
        await feed.erase(ANNA)
        batches = [decode((await listening.get_message(timeout=1))["data"]) for _ in range(3)]
        assert await listening.get_message(timeout=0.01) is None
    assert [(batch.first, batch.events) for batch in batches if batch] == [(1, (b'{"a":1}', b'{"a":2}')), (3, (b'{"a":3}',)), (0, ())]
    assert [batch.epoch == start.epoch for batch in batches if batch] == [True, True, False]


async def test_racing_relays_leave_one_log(redis: Redis) -> None:
    feed = Feed(redis=redis, relayed=nothing_relayed)
    start = await feed.position(ANNA)
    numbered = [(offset, b'{"n":%d}' % offset) for offset in range(1, 201)]

    async def relay(step: int) -> None:
        for at in range(0, len(numbered), step):
            while not isinstance(await feed.append(ANNA, numbered[at : at + step]), Appended):
                pass

    await asyncio.gather(*(relay(step) for step in (1, 3, 7, 50)))
    assert list((await feed.read(ANNA, start)).entries) == numbered


async def test_a_valkey_that_is_away_is_said_to_be_away() -> None:
    client = connect("unix:///nowhere/at/all.sock", timeout=1, pool=2)
    feed = Feed(redis=client, relayed=nothing_relayed)
    for attempt in (feed.position(ANNA), feed.append(ANNA, [(1, b"{}")]), feed.erase(ANNA), feed.glance([ANNA])):
        with pytest.raises(EngineUnavailable):
            await attempt
    await client.aclose()
