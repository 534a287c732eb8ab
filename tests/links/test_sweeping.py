"""What is lost is found, however much that is in somebody's hands is older."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from backend.clock import ManualClock
from backend.jobs.queue import MemoryQueue
from backend.links import refreshing, unlinking
from backend.links.refreshing import OpenRefreshSweep
from backend.links.unlinking import RevocationSweep
from backend.storage import refreshes, revocations
from backend.storage.database import Database
from tests.registration.play import NOON, A, B

LATER = NOON + timedelta(seconds=3)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that no worker looks at."""
    database = Database(database_url, pool=2)
    yield database
    await database.close()


async def test_a_provider_that_stays_away_hides_no_other_revocation(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlinking, "MOST", 2)
    for user in ("anna", "bert", "cleo"):
        await database.transaction(lambda connection, user=user: revocations.owe(connection, user, A, b"", NOON))
    queue = MemoryQueue(clock=ManualClock(NOON))
    sweep = RevocationSweep(database=database, queue=queue)
    assert [await sweep.sweep(LATER) for _ in range(3)] == [2, 1, 0]


async def test_refreshes_that_take_long_hide_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "MOST", 2)
    for user in ("anna", "bert"):
        await database.transaction(
            lambda connection, user=user: refreshes.add(connection, user, f"ref_{user}", [A, B], request_id="req_12345678", now=NOON)
        )
    queue = MemoryQueue(clock=ManualClock(NOON))
    sweep = OpenRefreshSweep(database=database, queue=queue)
    assert [await sweep.sweep(LATER) for _ in range(3)] == [2, 2, 0]
