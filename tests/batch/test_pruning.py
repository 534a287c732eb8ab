from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from backend.clock import KST
from backend.storage import batch_pruning, pruning
from backend.storage.database import Database
from backend.storage.pruning import EVERY, Pruning
from tests.batch.given import SUNDAY
from tests.batch.rows import BANK, linked, ran

NOW = datetime(2026, 11, 25, 2, tzinfo=KST)
WEEK = timedelta(days=7)

_REFRESHES = """
    INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
    SELECT user_id, org_code, $1, link_id, $2, 1, 1, 'recorded', $2 FROM links
"""
_COMMAND = """
    INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms, per_minute,
      state, at_due, at_link, created_at)
    VALUES ($1, $2, $3, $3, $3, 1, $3, 1, 1, 1, 1, 'ended', $3, 1, $2)
"""


async def test_what_is_old_goes_some_at_a_time_and_what_is_not_stays(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MOST", 4)
    await linked(database, 6)
    for ago in (0, 4, 5, 6):
        await ran(database, _REFRESHES, SUNDAY - ago * WEEK, NOW)
    for ago in (0, 15, 16):
        await ran(database, _COMMAND, BANK, NOW - ago * WEEK, SUNDAY - ago * WEEK)
        await ran(
            database,
            "INSERT INTO batch_windows (org_code, begins, ends, asked_by, asked_at) VALUES ($1, $2, $2, '', $2)",
            BANK,
            NOW - ago * WEEK,
        )
    shell = Pruning("batch_old", batch_pruning.forget_old, database=database)
    assert await shell.prune(NOW) == 4 + 2 + 1
    assert [await shell.prune(NOW) for _ in range(3)] == [4, 4, 0]
    weeks = [row[0] for row in await ran(database, "SELECT DISTINCT week FROM batch_refreshes ORDER BY week")]
    assert weeks == [SUNDAY - 4 * WEEK, SUNDAY]
    assert len(await ran(database, "SELECT FROM batch_commands")) == 1
    assert len(await ran(database, "SELECT FROM batch_windows")) == 2
    await ran(database, _REFRESHES, SUNDAY - 9 * WEEK, NOW)
    assert await shell.prune(NOW + EVERY / 2) == 0
    assert await shell.prune(NOW + EVERY) == 4 + 1  # and a window that is fifteen weeks old by now
