"""An answer is kept for a day under (user, key)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from backend.storage import idempotency
from backend.storage.database import Database
from backend.storage.idempotency import FirstAnswer
from backend.storage.statements import statement

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
ANSWER = FirstAnswer(body_digest=b"digest", status=202, location="/v1/registrations/reg_1", body=b'{"id":"reg_1"}')


KEEP = statement(f"WITH {idempotency.KEPT} SELECT * FROM kept")


async def keep(database: Database, answer: FirstAnswer, now: datetime, user_id: str = "anna") -> bool:
    """Whether the key was new."""
    values = {"user_id": user_id, "now": now, **answer.columns("key", now)}
    return await database.single(lambda connection: KEEP.value(connection, values)) is True


async def find(database: Database, now: datetime, user_id: str = "anna") -> FirstAnswer | None:
    async with database.reading() as connection:
        return await idempotency.find(connection, user_id, "key", now)


async def test_the_first_answer_is_found_for_24_hours(database: Database) -> None:
    await keep(database, ANSWER, NOW)
    assert await find(database, NOW) == ANSWER
    assert await find(database, NOW + DAY - timedelta(milliseconds=1)) == ANSWER
    assert await find(database, NOW + DAY) is None


async def test_of_many_who_come_with_a_key_at_once_one_is_the_first(database: Database) -> None:
    assert sorted(await asyncio.gather(*(keep(database, ANSWER, NOW) for _ in range(8)))) == [False] * 7 + [True]


async def test_a_key_belongs_to_its_user(database: Database) -> None:
    await keep(database, ANSWER, NOW)
    assert await find(database, NOW, "berta") is None


async def test_after_a_day_the_key_is_new_again(database: Database) -> None:
    await keep(database, ANSWER, NOW)
    other = FirstAnswer(body_digest=b"other", status=202, location="/v1/registrations/reg_2", body=b'{"id":"reg_2"}')
    assert not await keep(database, other, NOW + DAY - timedelta(milliseconds=1))
    assert await find(database, NOW + DAY - timedelta(milliseconds=1)) == ANSWER
    assert await keep(database, other, NOW + DAY)
    assert await find(database, NOW + DAY) == other


async def test_what_nobody_may_ask_for_is_forgotten(database: Database) -> None:
    await keep(database, ANSWER, NOW)
    await keep(database, ANSWER, NOW + timedelta(hours=1), "berta")
    assert await database.transaction(lambda connection: idempotency.forget_old(connection, NOW + DAY)) == 1
    assert await find(database, NOW + DAY, "berta") == ANSWER
