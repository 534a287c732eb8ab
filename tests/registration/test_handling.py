"""Requests that meet in one process: taken along together, in order, and none hurts another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.clock import SystemClock
from backend.realtime.feed import MemoryFeed
from backend.registration.decisions import Complete, Connect, RecordAcceptance, RecordSignatureRequest, RecordSigned, decide
from backend.registration.handling import Handling
from backend.registration.model import Item, Registration, requested_signature
from backend.registration.rows import new_row
from backend.storage import registrations
from backend.storage.database import Database
from backend.storage.outbox import Relay
from backend.storage.statements import Connection

CODES = tuple(f"A1MOABK{number:03}" for number in range(8))
REGISTRATION = "reg_1"


class Counted(Database):
    """Counts its transactions."""

    transactions = 0

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
    async def nothing(_: str) -> int:
        return 0

    return MemoryFeed(relayed=nothing)


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


async def test_requests_that_meet_share_transactions_and_each_gets_its_own_facts(handling: Handling, database: Counted) -> None:
    before = database.transactions
    handled = await asyncio.gather(*(handling.handle("anna", REGISTRATION, Connect(code, 1)) for code in CODES))
    assert [fact.event().org_code for one in handled for fact in one.facts] == list(CODES)
    assert database.transactions - before < len(CODES)


async def test_facts_reach_the_feed_in_the_order_of_their_offsets(handling: Handling, feed: MemoryFeed) -> None:
    await asyncio.gather(*(handling.handle("anna", REGISTRATION, Connect(code, 1)) for code in CODES))
    await asyncio.gather(*(handling.handle("anna", REGISTRATION, Complete(code, 1)) for code in CODES))
    await handling.finish()
    position = await feed.position("anna")
    assert position.offset == 1 + 2 + 2 * len(CODES) + 1  # accepted, the signature's two, two per provider, the end


async def test_one_callers_fault_leaves_the_others_alone(handling: Handling) -> None:
    async def broken(connection: Connection) -> None:
        await connection.execute("SELECT 1 / 0")

    deeds = [handling.handle("anna", REGISTRATION, Connect(code, 1), beside=broken if code == CODES[3] else None) for code in CODES]
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


async def test_what_is_beside_runs_without_requests_and_not_with_late_ones(handling: Handling) -> None:
    ran: list[str] = []

    def beside(name: str):  # type: ignore[no-untyped-def]
        async def deed(_: Connection) -> None:
            ran.append(name)

        return deed

    await handling.handle("anna", REGISTRATION, beside=beside("alone"))
    await handling.handle("anna", REGISTRATION, Complete(CODES[0], run=7), beside=beside("late"))
    assert ran == ["alone"]


async def test_a_registration_that_is_not_there_is_said_so(handling: Handling) -> None:
    assert (await handling.handle("anna", "reg_2", Connect(CODES[0], 1))).registration is None
    assert (await handling.handle("berta", REGISTRATION, Connect(CODES[0], 1))).registration is None
