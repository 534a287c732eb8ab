"""Each change of a circuit is written down once and told to operators once, whoever dies in between; and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from backend.coordinator.chronicle import KEPT, Chronicle, Chronicled
from backend.coordinator.standing import Reason, Standing
from backend.coordinator.store import MemoryStore, Reign
from backend.errors import EngineUnavailable
from backend.events import Position
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.realtime.feed import OPERATORS, Feed
from backend.storage import decisions, webhooks
from backend.storage.database import Database
from backend.storage.outbox import Relay, relayed
from backend.storage.statements import Connection

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
MS = NOW.timestamp() * 1000
BANK, CARD = Circuit("A1MOABK001", Scope.READ), Circuit("B1MOACD001", Scope.TOKEN)
OPEN, HALF_OPEN, CLOSED = CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.CLOSED


def standing(
    circuit: Circuit, second: float, state: CircuitState, reason: str = Reason.FAILURE_RATE, *, epoch: int = 1, **more: Any
) -> Standing:
    return Standing(circuit=circuit, state=state, reason=reason, epoch=epoch, since_ms=MS + second * 1000, **more)


class Stage:
    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.feed = Feed(redis=redis, relayed=partial(relayed, database))
        self.relay = Relay(database=database, feed=self.feed)
        self.memory = MemoryStore(lambda: MS)
        self.begin()

    def begin(self, **changed: Any) -> None:
        """Another leader, who knows what is stored."""
        kept: dict[str, Any] = {"database": self.database, "relay": self.relay, **changed}
        self.chronicle = Chronicle(store=self.memory, feed=OPERATORS, **kept)
        self.store = Chronicled(self.memory, self.chronicle)

    async def decide(self, *standings: Standing) -> bool:
        stored = await self.store.read()
        return await self.store.put(Reign(stored.lineage, stored.token), standings, (), ())

    async def heard(self) -> list[dict[str, Any]]:
        found = await self.feed.read(OPERATORS, Position((await self.feed.position(OPERATORS)).epoch, 0))
        assert [offset for offset, _ in found.entries] == list(range(1, len(found.entries) + 1))
        return [orjson.loads(event) for _, event in found.entries]

    async def types(self) -> list[str]:
        return [event["type"] for event in await self.heard()]

    async def written(self) -> list[tuple[str, str]]:
        async with self.database.reading() as connection:
            return [(each.org_code, each.state) for each in await decisions.changes(connection, org_code=None, limit=100)][::-1]


@pytest.fixture
async def stage(database_url: str, valkey_url: str) -> AsyncIterator[Stage]:
    database, redis = Database(database_url, pool=4), connect(valkey_url, timeout=2, pool=10)
    stage = Stage(database, redis)
    yield stage
    await stage.relay.close()
    await redis.aclose()
    await database.close()


async def test_every_change_between_two_looks_is_told_in_its_order(stage: Stage) -> None:
    for each in (standing(BANK, 1, OPEN), standing(BANK, 6, HALF_OPEN, "probing", epoch=2), standing(CARD, 6, OPEN)):
        assert await stage.decide(each)
    assert await stage.decide(standing(BANK, 6.01, CLOSED, "recovered", epoch=3))
    assert await stage.chronicle.sweep(NOW) == 4
    assert await stage.types() == ["breaker.opened", "breaker.half_opened", "breaker.opened", "breaker.closed"]
    assert (await stage.heard())[0] == {
        "type": "breaker.opened",
        "at": "2026-11-22T01:02:04.000Z",
        "org_code": "A1MOABK001",
        "data": {"scope": "read", "state": "open", "mode": "auto", "reason": "failure_rate", "epoch": 1},
    }
    assert await stage.written() == [("A1MOABK001", "open"), ("A1MOABK001", "half_open"), ("B1MOACD001", "open"), ("A1MOABK001", "closed")]


async def test_what_is_only_told_again_is_no_change(stage: Stage) -> None:
    await stage.decide(standing(BANK, 1, OPEN))
    await stage.decide(standing(BANK, 1, OPEN, epoch=2))
    assert await stage.chronicle.sweep(NOW) == 1
    await stage.decide(standing(BANK, 1, OPEN, epoch=3))
    assert await stage.chronicle.sweep(NOW) == 0
    await stage.decide(standing(CARD, 1, CLOSED, epoch=0))
    assert await stage.chronicle.sweep(NOW) == 0, "nothing was ever decided of it"


async def test_a_forced_mode_is_told_as_such_and_its_end_as_what_follows(stage: Stage) -> None:
    await stage.decide(standing(BANK, 1, OPEN, "asked by phone", mode=Mode.FORCED_OPEN))
    await stage.decide(standing(BANK, 2, OPEN, Reason.MODE_ENDED, epoch=2))
    await stage.chronicle.sweep(NOW)
    assert [(event["type"], event["data"]["reason"]) for event in await stage.heard()] == [
        ("breaker.forced", "asked by phone"),
        ("breaker.opened", "forced_mode_ended"),
    ]


async def test_what_a_leader_could_not_write_down_is_written_by_the_next(stage: Stage) -> None:
    await stage.decide(standing(BANK, 1, OPEN))
    stage.begin()
    assert await stage.chronicle.sweep(NOW) == 1
    stage.begin()
    assert await stage.chronicle.sweep(NOW) == 0
    await asyncio.gather(*(stage.chronicle.sweep(NOW) for _ in range(3)))
    assert await stage.types() == ["breaker.opened"]


class Dying(Relay):
    async def push(self, user_id: str, entries: Any) -> None:
        raise asyncio.CancelledError


async def test_who_dies_after_the_commit_is_made_up_for(stage: Stage) -> None:
    stage.begin(relay=Dying(database=stage.database, feed=stage.feed))
    await stage.decide(standing(BANK, 1, OPEN))
    with pytest.raises(asyncio.CancelledError):
        await stage.chronicle.sweep(NOW)
    assert await stage.types() == []
    await stage.relay.sweep(NOW + timedelta(seconds=5))
    assert await stage.types() == ["breaker.opened"]


async def test_while_postgresql_is_away_decisions_wait_and_keep_nobody_waiting(stage: Stage) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", pool=1)
    stage.begin(database=away)
    assert await stage.decide(standing(BANK, 1, OPEN))
    assert await stage.decide(standing(BANK, 2, HALF_OPEN))
    with pytest.raises(EngineUnavailable):
        await stage.chronicle.sweep(NOW)
    await away.close()
    stage.chronicle._database = stage.database  # it is back
    assert await stage.chronicle.sweep(NOW) == 2
    assert await stage.types() == ["breaker.opened", "breaker.half_opened"]


async def test_what_a_store_refused_is_not_told(stage: Stage) -> None:
    assert not await stage.store.put(Reign("another", 1), [standing(BANK, 1, OPEN)], (), ())
    assert await stage.chronicle.sweep(NOW) == 0


async def test_no_webhook_hears_of_circuits_and_a_lost_feed_goes_on_where_it_was(stage: Stage, valkey_url: str) -> None:
    async def deed(connection: Connection) -> None:
        row = {"id": "wh_all", "url": "https://a", "events": None, "description": "", "status": "active", "created_at": NOW}
        await webhooks.add(connection, {**row, "secret_sealed": b"s"})

    await stage.database.transaction(deed)
    await stage.decide(standing(BANK, 1, OPEN))
    await stage.chronicle.sweep(NOW)
    await stage.relay.flush()
    async with stage.database.reading() as connection:
        assert await connection.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
        assert await connection.fetchval("SELECT count(*) FROM users") == 0
    redis = connect(valkey_url, timeout=2, pool=1)
    await redis.flushall()
    assert (await stage.feed.position(OPERATORS)).offset == 1
    await redis.aclose()


async def test_decisions_are_kept_for_a_month(stage: Stage) -> None:
    await stage.decide(standing(BANK, 1, OPEN))
    await stage.chronicle.sweep(NOW)
    await stage.chronicle.sweep(NOW + KEPT)
    assert len(await stage.written()) == 1
    await stage.chronicle.sweep(NOW + KEPT + timedelta(seconds=2))
    assert await stage.written() == []
