"""Deliveries that wait for an earlier one of their user: they are due with it, and no later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from backend.storage import webhooks as storage
from backend.storage.database import Database
from backend.storage.statements import Connection
from backend.storage.tables import webhook_deliveries, webhooks
from backend.storage.webhooks import OVERTAKEN_AFTER, Claim
from tests.storage.given import insert

NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


async def claimed(connection: Connection, now: datetime) -> list[Claim]:
    return await storage.claim(connection, "wh_1", slots=10, now=now, until=now + timedelta(seconds=30))


async def fail(connection: Connection, claim: Claim, due_at: datetime) -> None:
    assert await storage.failed(connection, claim, "500", due_at=due_at, over=False, now=NOW)


async def given(connection: Connection, *offsets: int) -> None:
    hook = {"id": "wh_1", "url": "https://receiver.example", "description": "", "status": "active", "secret_sealed": b"", "created_at": NOW}
    await insert(connection, webhooks, [hook])
    common = {"user_id": "anna", "webhook_id": "wh_1", "event": b"{}", "due_at": NOW, "created_at": NOW}
    await insert(connection, webhook_deliveries, [{**common, "offset": offset, "id": uuid4()} for offset in offsets])


async def test_who_claims_does_not_look_at_what_waits_for_one_that_failed(database: Database) -> None:
    async with database.reading() as connection:
        await given(connection, 1, 2, 3)
        [first] = await claimed(connection, NOW)
        await fail(connection, first, LATER)
        due = await connection.fetch('SELECT due_at FROM webhook_deliveries ORDER BY "offset"')
        assert [row["due_at"] for row in due] == [LATER] * 3
        [again] = await claimed(connection, LATER)
        assert again.offset == 1
        assert await storage.delivered(connection, again, LATER)
        assert [claim.offset for claim in await claimed(connection, LATER)] == [2]  # at once


async def test_what_is_overtaken_holds_nothing_up_any_more(database: Database) -> None:
    async with database.reading() as connection:
        await given(connection, 1, 2)
        for _ in range(OVERTAKEN_AFTER - 1):
            [first] = await claimed(connection, NOW)
            assert first.offset == 1
            await fail(connection, first, NOW)
        [first] = await claimed(connection, NOW)
        await fail(connection, first, LATER)
        assert [claim.offset for claim in await claimed(connection, NOW)] == [2]
