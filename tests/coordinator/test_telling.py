"""Who is linked to a provider hears each change of its status once, whoever dies while it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from backend.clock import ManualClock
from backend.coordinator.standing import Reason, Standing
from backend.coordinator.telling import LOST_AFTER, StatusSweep, retry_at
from backend.errors import EngineUnavailable
from backend.events import Event, EventType, Position
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.directory import BUILT_IN, load_directory
from backend.realtime.feed import Feed
from backend.storage import links, webhooks
from backend.storage.database import Database
from backend.storage.outbox import Relay, publish, relayed
from backend.storage.statements import Connection
from tests.storage.given import entered

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
MS = NOW.timestamp() * 1000
BANK, CARD = "A1MOABK001", "B1MOACD001"
PEOPLE = ["anna", "berta", "carl", "dora", "emil"]
DIRECTORY = load_directory(BUILT_IN)
LINK = {
    "status": "active",
    "consent_tx_id": "tx",
    "consent_ends_on": date(2027, 11, 22),
    "consented_at": NOW,
    "access_token_sealed": b"a",
    "access_expires_at": NOW,
    "refresh_token_sealed": b"r",
    "refresh_expires_at": NOW,
    "scope": "bank.list",
    "updated_at": NOW,
    "begins_anew": True,
}


def standing(org_code: str, state: CircuitState, reason: str, *, scope: Scope = Scope.READ, **more: Any) -> Standing:
    return Standing(circuit=Circuit(org_code, scope), state=state, reason=reason, epoch=1, since_ms=MS, **more)


def resting(org_code: str = BANK, probe_at_ms: float | None = MS + 5000) -> Standing:
    return standing(org_code, CircuitState.OPEN, Reason.FAILURE_RATE, probe_at_ms=probe_at_ms)


def well(org_code: str = BANK) -> Standing:
    return standing(org_code, CircuitState.CLOSED, Reason.RECOVERED)


def paused(org_code: str = BANK) -> Standing:
    return standing(org_code, CircuitState.OPEN, Reason.MAINTENANCE, probe_at_ms=MS + 60_000)


def probed(org_code: str = BANK) -> Standing:
    return standing(org_code, CircuitState.HALF_OPEN, Reason.PROBING)


class Stage:
    """People with links, feeds, and standings that the test sets."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.feed = Feed(redis=redis, relayed=partial(relayed, database))
        self.relay = Relay(database=database, feed=self.feed)
        self.clock = ManualClock(NOW)
        self.now: tuple[Standing, ...] | None = ()  # None: Valkey is away
        self.sweep_ = self.sweeper()

    def sweeper(self, **changed: Any) -> StatusSweep:
        kept: dict[str, Any] = {"relay": self.relay, "clock": self.clock, "most": 2, **changed}
        return StatusSweep(database=self.database, standings=self, directory=lambda: DIRECTORY, **kept)

    async def standings(self) -> Sequence[Standing]:
        if self.now is None:
            raise EngineUnavailable("Valkey")
        return self.now

    async def see(self, *now: Standing) -> int:
        """One look; how many were told."""
        self.now = now
        return await self.sweep_.sweep(self.clock.now())

    async def link(self, user_id: str, org_code: str = BANK, **changed: Any) -> None:
        async def deed(connection: Connection) -> None:
            await entered(connection, user_id, NOW)
            await links.save(connection, user_id, {**LINK, "org_code": org_code, **changed})

        await self.database.transaction(deed)
        await self.feed.position(user_id)  # somebody listens: a feed that nobody opened begins where it is first written

    async def heard(self, user_id: str) -> list[tuple[str, dict[str, Any]]]:
        epoch = (await self.feed.position(user_id)).epoch
        found = await self.feed.read(user_id, Position(epoch, 0))
        assert found.recovered
        assert [offset for offset, _ in found.entries] == list(range(1, len(found.entries) + 1))
        events = [orjson.loads(event) for _, event in found.entries]
        return [(event["org_code"], event["data"]) for event in events if event["type"] == "provider.status"]

    async def all_heard(self, statuses: list[str]) -> None:
        for user_id in PEOPLE:
            assert await self.statuses(user_id) == statuses, user_id

    async def statuses(self, user_id: str) -> list[str]:
        return [data["status"] for _, data in await self.heard(user_id)]


@pytest.fixture
async def stage(database_url: str, valkey_url: str) -> AsyncIterator[Stage]:
    database, redis = Database(database_url, pool=8), connect(valkey_url, timeout=2, pool=30)
    stage = Stage(database, redis)
    yield stage
    await stage.relay.close()
    await redis.aclose()
    await database.close()


@pytest.fixture
async def five(stage: Stage) -> Stage:
    for user_id in PEOPLE:
        await stage.link(user_id)
    return stage


async def test_everybody_who_is_linked_hears_each_change_once(five: Stage) -> None:
    await five.link("others", CARD)
    await five.link("revoked", status="revoked")
    assert await five.see(resting()) == 5
    assert await five.see(resting()) == 0
    assert await five.see(probed()) == 0
    assert await five.see(paused()) == 5
    assert await five.see(probed()) == 0
    assert await five.see(well()) == 5
    assert await five.see(well()) == 0
    for user_id in PEOPLE:
        assert await five.heard(user_id) == [
            (BANK, {"status": "resting", "retry_at": "2026-11-22T01:02:08.000Z"}),
            (BANK, {"status": "maintenance", "retry_at": "2026-11-22T01:03:03.000Z"}),
            (BANK, {"status": "available"}),
        ]
    assert (await five.heard("others"), await five.heard("revoked")) == ([], [])


async def test_of_two_providers_each_is_told_to_its_own_and_the_ca_to_nobody(five: Stage) -> None:
    await five.link("anna", CARD)
    await five.see(resting(BANK, None), resting(CARD), Standing(circuit=Circuit("CAMOA00001", Scope.CA), state=CircuitState.OPEN))
    assert sorted(await five.heard("anna")) == [
        (BANK, {"status": "resting"}),
        (CARD, {"status": "resting", "retry_at": "2026-11-22T01:02:08.000Z"}),
    ]
    assert await five.heard("emil") == [(BANK, {"status": "resting"})]


class Dying(Relay):
    """A process that dies between the commit of a slice and everything else."""

    async def push(self, user_id: str, entries: Sequence[Any]) -> None:
        raise asyncio.CancelledError


async def test_who_dies_between_two_slices_is_continued(five: Stage) -> None:
    dying = five.sweeper(relay=Dying(database=five.database, feed=five.feed))
    five.now = (resting(),)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await dying.sweep(NOW)
    assert await five.see(resting()) == 1, "four were told, though not handed over"
    assert await five.see(resting()) == 0
    await five.relay.sweep(NOW + timedelta(seconds=5))
    await five.all_heard(["resting"])


async def test_a_look_tells_for_so_long_only_and_the_next_goes_on(five: Stage) -> None:
    five.sweep_ = five.sweeper(budget=0)
    assert [await five.see(resting()) for _ in range(4)] == [2, 2, 1, 0]
    await five.all_heard(["resting"])


async def test_a_change_meanwhile_waits_until_all_have_heard_the_one_before(five: Stage) -> None:
    five.sweep_ = five.sweeper(budget=0)
    assert await five.see(resting()) == 2
    assert await five.see(well()) == 2
    assert await five.see(paused()) == 1
    assert [await five.see(paused()) for _ in range(5)] == [0, 2, 2, 1, 0], "that it was well in between was over before it could be told"
    await five.all_heard(["resting", "maintenance"])


async def test_two_leaders_at_once_tell_nobody_twice(five: Stage) -> None:
    five.now = (resting(),)
    await asyncio.gather(*(five.sweeper(most=1).sweep(NOW) for _ in range(4)))
    await five.see(resting())
    await five.all_heard(["resting"])


async def test_what_else_happens_to_the_users_is_numbered_in_between(five: Stage) -> None:
    async def publishing(user_id: str) -> None:
        event = Event(EventType.PROVIDER_CONNECTING, "2026-11-22T03:00:00.000Z", "reg_1", BANK)
        for _ in range(10):
            await five.relay.push(user_id, await five.database.transaction(lambda connection: publish(connection, user_id, [event], NOW)))

    async def looking() -> None:
        for now in (resting(), well(), paused(), well()):
            await five.see(now)

    await asyncio.gather(looking(), *(publishing(user_id) for user_id in PEOPLE))
    await five.relay.sweep(NOW + timedelta(seconds=5))
    for user_id in PEOPLE:
        assert await five.statuses(user_id) == ["resting", "available", "maintenance", "available"]
        assert (await five.feed.position(user_id)).offset == 14


async def test_webhooks_that_want_it_get_it(five: Stage) -> None:
    async def deed(connection: Connection) -> None:
        for name, events in (("wh_all", None), ("wh_some", ["provider.status"]), ("wh_none", ["provider.failed"])):
            row = {"id": name, "url": "https://a", "events": events, "description": "", "status": "active", "created_at": NOW}
            await webhooks.add(connection, {**row, "secret_sealed": b"s"})

    await five.database.transaction(deed)
    await five.see(resting())
    async with five.database.reading() as connection:
        rows = await connection.fetch('SELECT webhook_id, user_id, "offset", event FROM webhook_deliveries ORDER BY 1, 2')
    assert [(row["webhook_id"], row["user_id"], row["offset"]) for row in rows] == [
        (name, user_id, 1) for name in ("wh_all", "wh_some") for user_id in PEOPLE
    ]
    assert orjson.loads(rows[0]["event"])["type"] == "provider.status"


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_in_between_everybody_ends_with_the_truth_and_hears_nothing_twice(five: Stage, seed: int) -> None:
    draw = Random(seed)
    kinds: list[Callable[[], Standing]] = [resting, well, paused, probed]
    for _ in range(25):
        five.now = (draw.choice(kinds)(),)
        leaders = [five.sweeper(budget=draw.choice([0, 0, 60])) for _ in range(draw.choice([1, 1, 2]))]
        if draw.random() < 0.2:
            leaders.append(five.sweeper(relay=Dying(database=five.database, feed=five.feed)))
        await asyncio.gather(*(leader.sweep(five.clock.now()) for leader in leaders), return_exceptions=True)
        five.clock.move(timedelta(seconds=1))
    last = draw.choice([resting, well, paused])
    while await five.see(last()):
        pass
    await five.see(last())
    await five.relay.sweep(five.clock.now() + timedelta(seconds=5))
    heard = {user_id: await five.statuses(user_id) for user_id in PEOPLE}
    for statuses in heard.values():
        assert statuses == heard["anna"], "all hear the same in the same order"
        assert all(one != other for one, other in pairwise(["available", *statuses]))
        assert statuses[-1] == {resting: "resting", well: "available", paused: "maintenance"}[last]


async def test_while_valkey_is_away_nothing_is_told(five: Stage) -> None:
    await five.see(resting())
    five.now = None
    with pytest.raises(EngineUnavailable):
        await five.sweep_.sweep(NOW)
    assert await five.statuses("anna") == ["resting"]


async def test_what_a_wiped_store_does_not_know_is_not_well_at_once(five: Stage) -> None:
    await five.see(resting())
    assert await five.see() == 0
    five.clock.move(timedelta(seconds=LOST_AFTER - 1))
    assert await five.see() == 0
    assert await five.see(resting()) == 0
    five.clock.move(timedelta(seconds=2))
    assert await five.see() == 0, "it was heard of meanwhile"
    five.clock.move(timedelta(seconds=LOST_AFTER))
    assert await five.see() == 5
    assert await five.statuses("anna") == ["resting", "available"]


def test_a_provider_is_back_when_the_last_of_its_circuits_is_probed() -> None:
    later = standing(BANK, CircuitState.OPEN, "x", scope=Scope.TOKEN, probe_at_ms=MS + 9000)
    assert retry_at([resting(), later], NOW) == NOW + timedelta(seconds=9)
    assert retry_at([resting(), well()], NOW) == NOW + timedelta(seconds=5)
    assert retry_at([resting()], NOW + timedelta(seconds=5)) is None
    assert retry_at([resting(), standing(BANK, CircuitState.OPEN, "said", mode=Mode.FORCED_OPEN)], NOW) is None
    assert retry_at([well()], NOW) is None
