"""Requests that meet in one process: taken along together, in order, and none hurts another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from backend.clock import SystemClock
from backend.errors import Trouble
from backend.events import Asset, AssetKind, Industry, ProviderConnecting
from backend.realtime.feed import MemoryFeed
from backend.registration.decisions import (
    Complete,
    Connect,
    Fail,
    RecordAcceptance,
    RecordAssets,
    RecordSignatureRequest,
    RecordSigned,
    Retry,
    decide,
)
from backend.registration.handling import Handling
from backend.registration.model import Item, Registration, requested_signature
from backend.registration.rows import new_row
from backend.storage import assets, erasing, registrations, users
from backend.storage.assets import AssetQuery
from backend.storage.changes import Writes
from backend.storage.database import Database
from backend.storage.outbox import Relay, publish
from backend.storage.statements import Connection

CODES = tuple(f"A1MOABK{number:03}" for number in range(8))
REGISTRATION = "reg_1"
NEWS = ProviderConnecting(registration_id="reg_of_another_time", at=datetime(2026, 11, 22, tzinfo=UTC), org_code=CODES[0])


def asset(name: str, org_code: str = CODES[0]) -> Asset:
    return Asset(
        id=name,
        org_code=org_code,
        industry=Industry.BANK,
        kind=AssetKind.DEPOSIT,
        name="자유 입출금",
        number_masked="***-1",
        status="active",
        balance=None,
        as_of="2026-11-22T03:00:00.000Z",
        details={},
    )


class Counted(Database):
    """Counts what it is asked for."""

    statements = 0
    transactions = 0

    async def single(self, deed):  # type: ignore[no-untyped-def]
        self.statements += 1
        return await super().single(deed)

    async def transaction(self, deed):  # type: ignore[no-untyped-def]
        self.transactions += 1
        return await super().transaction(deed)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Counted]:
    opened = Counted(database_url, pool=5)
    yield opened
    await opened.close()


@pytest.fixture
def feed() -> MemoryFeed:
    return MemoryFeed(relayed=_nothing)


async def _nothing(_: str) -> int:
    return 0


@pytest.fixture
async def handling(database: Counted, feed: MemoryFeed) -> AsyncIterator[Handling]:
    """Over one registration of Anna's that is signed."""
    clock, relay = SystemClock(), Relay(database=database, feed=feed)
    now = clock.now()
    items = tuple(Item(org_code=code) for code in CODES)
    new = Registration(user_id="anna", id=REGISTRATION, created_at=now, sign_before=now + timedelta(minutes=5), items=items)

    async def deed(connection: Connection) -> None:
        events = [fact.event() for fact in decide(new, RecordAcceptance(), now)]
        row = new_row(new, request_id="req_1")
        accepted = registrations.Acceptance(registration=row, org_codes=CODES, person_sealed=b"sealed", events=events)
        await registrations.accept(connection, accepted, now)

    await database.transaction(deed)
    made = Handling(database=database, relay=relay, clock=clock)
    signature = requested_signature(web_url="https://ca/w", ios_url="ca://i", aos_url="ca://a", expires_at=new.sign_before)
    await made.handle("anna", REGISTRATION, RecordSignatureRequest(1, signature), RecordSigned(1))
    await made.finish()
    yield made
    await made.finish()
    await relay.close()


async def test_requests_that_meet_share_statements_and_each_gets_its_own_facts(handling: Handling, database: Counted) -> None:
    before = database.statements
    handled = await asyncio.gather(*(handling.handle("anna", REGISTRATION, Connect(code, 1)) for code in CODES))
    assert [fact.event().org_code for one in handled for fact in one.facts] == list(CODES)
    assert database.statements - before < len(CODES)


async def test_facts_reach_the_feed_in_the_order_of_their_offsets(handling: Handling, feed: MemoryFeed) -> None:
    await asyncio.gather(*(handling.handle("anna", REGISTRATION, Connect(code, 1)) for code in CODES))
    await asyncio.gather(*(handling.handle("anna", REGISTRATION, Complete(code, 1)) for code in CODES))
    await handling.finish()
    position = await feed.position("anna")
    assert position.offset == 1 + 2 + 2 * len(CODES) + 1  # accepted, the signature's two, two per provider, the end


async def test_one_callers_fault_leaves_the_others_alone(handling: Handling) -> None:
    broken = Writes(assets=(asset("\0", CODES[3]),))  # PostgreSQL knows no NUL
    deeds = [handling.handle("anna", REGISTRATION, Connect(code, 1), writes=broken if code == CODES[3] else None) for code in CODES]
    answers = await asyncio.gather(*deeds, return_exceptions=True)
    assert [isinstance(answer, Exception) for answer in answers] == [code == CODES[3] for code in CODES]
    registration = await handling.find("anna", REGISTRATION)
    assert registration is not None
    assert {item.org_code for item in registration.items if item.status == "waiting"} == {CODES[3]}


async def test_a_caller_that_was_cancelled_is_not_taken_along(handling: Handling) -> None:
    first = asyncio.create_task(handling.handle("anna", REGISTRATION, Connect(CODES[0], 1)))
    await asyncio.sleep(0)
    second = asyncio.create_task(handling.handle("anna", REGISTRATION, Connect(CODES[1], 1)))
    await asyncio.sleep(0)
    second.cancel()
    await first
    await handling.finish()
    registration = await handling.find("anna", REGISTRATION)
    assert registration is not None
    assert registration.item(CODES[1]).status == "waiting"


async def stored(database: Database) -> set[str]:
    async with database.reading() as connection:
        return {each.id for each in await assets.listed(connection, "anna", AssetQuery(limit=100))}


async def test_what_goes_along_is_written_without_requests_and_not_with_late_ones(handling: Handling, database: Counted) -> None:
    await handling.handle("anna", REGISTRATION, writes=Writes(assets=(asset("alone"),)))
    await handling.handle("anna", REGISTRATION, Complete(CODES[0], run=7), writes=Writes(assets=(asset("late"),)))
    assert await stored(database) == {"alone"}


async def test_a_change_that_another_process_made_meanwhile_is_not_written_over(
    handling: Handling, database: Counted, feed: MemoryFeed
) -> None:
    """Both processes remember the registration as it was; whoever comes second decides anew, on what the first one left."""
    relay = Relay(database=database, feed=feed)
    other = Handling(database=database, relay=relay, clock=SystemClock())
    for each in (handling, other):
        await each.handle("anna", REGISTRATION, Connect(CODES[0], 1))
    for code in CODES[:-1]:
        await asyncio.gather(*(each.handle("anna", REGISTRATION, Complete(code, 1)) for each in (handling, other)))
    last = await asyncio.gather(*(each.handle("anna", REGISTRATION, Complete(CODES[-1], 1)) for each in (handling, other)))
    await asyncio.gather(handling.finish(), other.finish())
    await relay.close()
    assert sorted(len(handled.facts) for handled in last) == [0, 2], "one ended it, with the registration; the other came too late"
    assert (await feed.position("anna")).offset == 1 + 2 + 1 + len(CODES) + 1


async def test_that_nothing_is_to_be_done_is_believed_of_what_there_is_now_only(handling: Handling, database: Counted) -> None:
    """A worker remembers a run that an API has ended and begun again meanwhile."""
    relay = Relay(database=database, feed=MemoryFeed(relayed=_nothing))
    api = Handling(database=database, relay=relay, clock=SystemClock())
    await handling.handle("anna", REGISTRATION, *(Fail(code, 1, Trouble.BUSY) for code in CODES[1:]))
    await api.handle("anna", REGISTRATION, Fail(CODES[0], 1, Trouble.BUSY))
    await api.handle("anna", REGISTRATION, Retry(frozenset()))
    connected = await handling.handle("anna", REGISTRATION, Connect(CODES[0], 2))
    assert [fact.TYPE for fact in connected.facts] == ["provider.connecting"]
    await asyncio.gather(handling.finish(), api.finish())
    await relay.close()


async def test_under_a_storm_of_other_news_of_the_user_a_change_still_gets_through(handling: Handling, database: Counted) -> None:
    """What this process knows is always outdated, and what it reads before a statement may be: then it goes under the user's lock."""
    over = asyncio.Event()

    async def storm() -> None:
        while not over.is_set():
            await database.transaction(lambda connection: publish(connection, "anna", [NEWS.event()], SystemClock().now()))

    storms = [asyncio.create_task(storm()) for _ in range(3)]
    for code in CODES:
        assert (await handling.handle("anna", REGISTRATION, Connect(code, 1))).facts
    over.set()
    await asyncio.gather(*storms)


async def test_a_registration_that_is_not_there_is_said_so(handling: Handling) -> None:
    assert (await handling.handle("anna", "reg_2", Connect(CODES[0], 1))).registration is None
    assert (await handling.handle("berta", REGISTRATION, Connect(CODES[0], 1))).registration is None


async def test_who_was_erased_and_came_back_hears_nothing_of_before(handling: Handling, database: Counted) -> None:
    code, now = CODES[0], SystemClock().now()
    await handling.handle("anna", REGISTRATION, Connect(code, 1))

    async def back_at_the_same_offset(connection: Connection) -> None:
        offset = await users.lock(connection, "anna")
        await erasing.erase(connection, "anna", now, traffic_key="a")
        await connection.execute("INSERT INTO users (user_id, feed_offset, created_at) VALUES ('anna', $1, $2)", offset, now)

    await database.transaction(back_at_the_same_offset)
    read = RecordAssets(code, 1, (asset("ast_1"),))
    handled = await handling.handle("anna", REGISTRATION, read, writes=Writes(assets=read.assets))
    assert handled.registration is None
    async with database.reading() as connection:
        assert await assets.listed(connection, "anna", AssetQuery(limit=1)) == []
