"""What operators did is noted, and nothing can be made of it afterwards."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from backend.storage import operators
from backend.storage.database import Database
from backend.storage.operators import Operator

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "rewriting", ["UPDATE operator_actions SET who = 'somebody else'", "DELETE FROM operator_actions", "TRUNCATE operator_actions"]
)
async def test_a_noted_action_is_neither_changed_nor_deleted(database: Database, rewriting: str) -> None:
    await database.transaction(
        lambda connection: operators.note(connection, Operator("olga", "req_1"), "webhook.added", at=NOW, about="wh_1")
    )
    async with database.reading() as connection:
        with pytest.raises(asyncpg.RestrictViolationError, match="operator_actions is append-only"):
            await connection.execute(rewriting)
        [noted] = await operators.actions(connection, org_code=None, limit=10)
    assert (noted.at, noted.who, noted.action, noted.org_code, noted.reason, noted.request_id) == (
        NOW,
        "olga",
        "webhook.added",
        "",
        "wh_1",
        "req_1",
    )
