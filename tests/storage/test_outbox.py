"""Facts leave PostgreSQL in order, none lost, none doubled; whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson
import pytest
from redis.asyncio import Redis

from backend.errors import EngineUnavailable
from backend.events import Appended, Event, EventType, Gap, Position
from backend.jobs.valkey import connect
from backend.metrics import Metric, Samples
from backend.realtime.feed import Feed
from backend.storage import erasing
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay, publish, relayed
from backend.storage.statements import Connection
from tests.storage.given import entered

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=2)
ANNA = "anna"


class World:
    """A database with a real feed behind its relay."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database, self.redis = database, redis
        self.feed = Feed(redis=redis, relayed=partial(relayed, database))
        self.relay = Relay(database=database, feed=self.feed)

    async def enter(self, user_id: str = ANNA) -> None:
        await self.database.transaction(lambda connection: entered(connection, user_id, NOW))

    async def commit(self, *names: str, user_id: str = ANNA, now: datetime = NOW) -> list[Entry]:
        """Facts in a transaction of their own. Whoever dies after this has not pushed them."""

        async def deed(connection: Connection) -> list[Entry]:
            return await publish(connection, user_id, [event(name) for name in names], now)

        return await self.database.transaction(deed)

    async def left(self) -> list[tuple[str, int]]:
        async with self.database.reading() as connection:
            rows = await connection.fetch('SELECT user_id, "offset" FROM outbox ORDER BY 1, 2')
            return [(row["user_id"], row["offset"]) for row in rows]

    async def read(self, since: Position | None = None, user_id: str = ANNA) -> list[tuple[int, str]]:
        since = since or Position((await self.feed.position(user_id)).epoch, 0)
        found = await self.feed.read(user_id, since)
        assert found.recovered
        return [(offset, orjson.loads(encoded)["data"]["n"]) for offset, encoded in found.entries]


def event(name: str) -> Event:
    return Event(EventType.PROVIDER_CONNECTING, "2026-11-22T03:00:00.000Z", "reg_1", "A1MOABK001", {"n": name})


@pytest.fixture
async def world(database: Database, valkey_url: str) -> AsyncIterator[World]:
    redis = connect(valkey_url, timeout=5, pool=10)
    built = World(database, redis)
    await built.enter()
    await built.feed.position(ANNA)  # a registration reads it before its first fact
    yield built
    await built.relay.close()
    await redis.aclose()


async def test_facts_are_numbered_from_one_without_holes(world: World) -> None:
    assert [offset for offset, _ in await world.commit("a", "b")] == [1, 2]
    assert [offset for offset, _ in await world.commit("c")] == [3]


async def test_concurrent_transactions_number_in_the_order_of_their_commits(world: World) -> None:
    committed: list[int] = []

    async def one(name: str) -> None:
        entries = await world.commit(name, name)
        committed.extend(offset for offset, _ in entries)

    await asyncio.gather(*(one(str(number)) for number in range(20)))
    assert sorted(committed) == list(range(1, 41))
    assert await world.left() == [(ANNA, offset) for offset in range(1, 41)]


async def test_a_transaction_that_is_rolled_back_takes_no_number(world: World) -> None:
    async def fails(connection: Connection) -> None:
        await publish(connection, ANNA, [event("lost")], NOW)
        raise LookupError

    with pytest.raises(LookupError):
        await world.database.transaction(fails)
    assert [offset for offset, _ in await world.commit("a")] == [1]


async def test_what_is_pushed_is_in_the_feed_and_leaves_the_outbox(world: World) -> None:
    await world.relay.push(ANNA, await world.commit("a", "b"))
    assert await world.read() == [(1, "a"), (2, "b")]
    await world.relay.flush()
    assert await world.left() == []


async def test_a_push_of_nothing_does_nothing(world: World) -> None:
    await world.relay.push(ANNA, [])
    await world.relay.push(ANNA, ())
    assert await world.left() == []


async def test_a_push_that_overtakes_another_sends_what_lies_before_it(world: World) -> None:
    first, second = await world.commit("a"), await world.commit("b")
    await world.relay.push(ANNA, second)
    assert await world.read() == [(1, "a"), (2, "b")]
    await world.relay.push(ANNA, first)  # late
    assert await world.read() == [(1, "a"), (2, "b")]


async def test_racing_relays_deliver_everything_once_and_in_order(world: World) -> None:
    others = [Relay(database=world.database, feed=world.feed) for _ in range(3)]
    pushes = [(others[number % 3], await world.commit(str(number))) for number in range(30)]
    await asyncio.gather(*(relay.push(ANNA, entries) for relay, entries in reversed(pushes)), world.relay.sweep(LATER))
    assert await world.read() == [(number + 1, str(number)) for number in range(30)]
    await asyncio.gather(*(relay.close() for relay in others))
    await world.relay.flush()
    assert await world.left() == []


async def test_what_was_committed_by_somebody_who_then_died_is_swept(world: World) -> None:
    await world.commit("a", "b")
    assert await world.relay.sweep(NOW + timedelta(seconds=0.9)) == 0, "it may still be in somebody's hands"
    assert await world.relay.sweep(LATER) == 1
    assert await world.read() == [(1, "a"), (2, "b")]
    await world.relay.flush()
    assert await world.relay.sweep(LATER) == 0


async def test_a_death_between_the_append_and_the_delete_doubles_nothing(world: World) -> None:
    entries = await world.commit("a")
    await world.feed.append(ANNA, entries)
    await world.relay.sweep(LATER)
    await world.relay.push(ANNA, entries)
    assert await world.read() == [(1, "a")]


async def test_more_than_one_batch_is_swept_in_one_go(world: World) -> None:
    await world.commit(*map(str, range(600)))
    assert await world.relay.sweep(LATER) == 1
    assert (await world.read())[-1] == (600, "599")
    await world.relay.flush()
    assert await world.left() == []


async def test_a_lost_tail_starts_a_new_epoch_and_loses_nothing_that_is_still_known(world: World) -> None:
    await world.relay.push(ANNA, await world.commit("a"))
    before = await world.feed.position(ANNA)
    await world.relay.push(ANNA, await world.commit("b"))
    await world.relay.flush()
    kept = {key: await world.redis.dump(key) for key in await world.redis.keys("*")}
    await world.relay.push(ANNA, await world.commit("c"))
    await world.relay.flush()  # PostgreSQL has forgotten c …
    for key, value in kept.items():
        await world.redis.restore(key, 0, value, replace=True)  # … and now Valkey has, too
    await world.relay.push(ANNA, await world.commit("d"))
    after = await world.feed.position(ANNA)
    assert after.offset == 4
    assert after.epoch != before.epoch
    assert not (await world.feed.read(ANNA, before)).recovered, "nobody is told that a and d are all there was"
    assert await world.read(Position(after.epoch, 3)) == [(4, "d")]


async def test_a_wiped_valkey_goes_on_behind_what_was_handed_over(world: World) -> None:
    await world.relay.push(ANNA, await world.commit("a"))
    await world.relay.flush()
    await world.commit("b")
    await world.redis.flushall()
    assert (await world.feed.position(ANNA)).offset == 1
    await world.relay.sweep(LATER)
    assert (await world.feed.position(ANNA)).offset == 2


async def test_what_a_wiped_valkey_took_along_before_the_delete_is_handed_over_again(world: World) -> None:
    """A reader opens the new feed while the rows still lie there: it begins before them, so they must go into it."""
    await world.relay.push(ANNA, await world.commit("a"))
    await world.redis.flushall()
    assert (await world.feed.position(ANNA)).offset == 0
    await world.relay.flush()
    assert await world.left() == [(ANNA, 1)]
    await world.relay.sweep(LATER)
    await world.relay.flush()
    assert await world.read() == [(1, "a")]
    assert await world.left() == []


async def test_how_far_a_feed_is_handed_over_follows_the_outbox(world: World) -> None:
    assert await relayed(world.database, "nobody") == 0
    assert await relayed(world.database, ANNA) == 0
    await world.commit("a", "b")
    assert await relayed(world.database, ANNA) == 0
    await world.relay.sweep(LATER)
    await world.relay.flush()
    assert await relayed(world.database, ANNA) == 2


async def test_one_users_facts_do_not_wait_for_anothers(world: World) -> None:
    await world.enter("berta")
    await world.commit("a")
    await world.relay.push("berta", await world.commit("b", user_id="berta"))
    assert await world.read(user_id="berta") == [(1, "b")]
    await world.relay.flush()
    assert await world.left() == [(ANNA, 1)]


class Away:
    """A feed whose Valkey does not answer."""

    async def append(self, user_id: str, entries: Sequence[Entry], *, rebase: bool = False) -> None:
        raise EngineUnavailable("Valkey")


async def test_a_push_never_raises_and_what_it_could_not_send_stays(world: World) -> None:
    relay = Relay(database=world.database, feed=Away())  # type: ignore[arg-type]
    await relay.push(ANNA, await world.commit("a"))
    await relay.close()
    assert await world.left() == [(ANNA, 1)]
    await world.relay.sweep(LATER)
    assert await world.read() == [(1, "a")]


async def test_what_waits_is_shown_with_its_age(world: World) -> None:
    def shown(samples: Samples) -> list[tuple[Metric, object]]:
        return [(sample.metric, sample.value) for sample in samples]

    assert shown(await world.relay.waiting(NOW)) == [(Metric.OUTBOX, 0), (Metric.OUTBOX_OLDEST, 0.0)]
    await world.enter()
    entries = await world.commit("a", "b")
    assert shown(await world.relay.waiting(LATER)) == [(Metric.OUTBOX, 2), (Metric.OUTBOX_OLDEST, 2.0)]
    await world.relay.push(ANNA, entries)
    assert shown(world.relay.measured()) == [(Metric.FEED_APPENDED, 2), (Metric.FEED_GAPS, 0)]


@pytest.mark.parametrize("before", [0, 3], ids=["the first facts", "later ones"])
async def test_what_was_on_its_way_brings_nothing_of_an_erased_user_back(world: World, before: int) -> None:
    """A relay that stood still between reading and appending: the rows went meanwhile, and so did the feed."""
    if before:
        await world.relay.push(ANNA, await world.commit(*"abc"[:before]))
    await world.commit("secret")
    late = Relay(database=world.database, feed=(stalled := Stalled(world.feed)))
    sweeping = asyncio.create_task(late.sweep(LATER))
    await stalled.reached.wait()
    await world.database.transaction(lambda connection: erasing.erase(connection, ANNA, NOW, traffic_key="key"))
    await world.feed.erase(ANNA)
    stalled.goes_on.set()
    await sweeping
    await late.close()
    assert await world.read() == []


class Stalled:
    """A feed whose first append waits."""

    def __init__(self, feed: Feed) -> None:
        self.reached, self.goes_on = asyncio.Event(), asyncio.Event()
        self.glance, self.erase, self._append = feed.glance, feed.erase, feed.append

    async def append(self, user_id: str, entries: Sequence[Entry], *, rebase: bool = False) -> Appended | Gap:
        self.reached.set()
        await self.goes_on.wait()
        return await self._append(user_id, entries, rebase=rebase)
