"""Whatever is lost between a commit and a job is found again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from backend.clock import ManualClock
from backend.jobs.queue import MemoryQueue
from backend.registration import sweeping
from backend.registration.sweeping import IdempotencySweep, OpenWorkSweep
from backend.storage import tables
from backend.storage.database import Database
from backend.storage.statements import Connection
from tests.registration.house import House
from tests.registration.play import NOON, TTL, A, B
from tests.storage.given import insert


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """One that no worker looks at."""
    database = Database(database_url, pool=2)
    yield database
    await database.close()


async def begun(database: Database, name: str, status: str, *items: dict[str, object], run: int = 1) -> None:
    """The rows of a registration in the midst of its work."""
    key = {"user_id": "anna", "registration_id": name, "updated_at": NOON}
    row = {"user_id": "anna", "id": name, "status": status, "run": run, "request_id": "req_12345678", "sign_before": NOON + TTL}
    signature = {"signature_status": "pending", "signature_run": 0, "created_at": NOON, "updated_at": NOON}

    async def deed(connection: Connection) -> None:
        await insert(connection, tables.registrations, [{**row, **signature}])
        for position, item in enumerate(items):
            await insert(connection, tables.registration_items, [{**key, "position": position, "run": 1, **item}])

    await database.transaction(deed)


async def test_lost_jobs_are_asked_for_again_once_each(database: Database) -> None:
    deferred = {"org_code": B, "status": "deferred", "retry_at": NOON + timedelta(seconds=30)}
    await begun(database, "reg_1", "signing", {"org_code": A, "status": "waiting"})
    await begun(database, "reg_2", "collecting", {"org_code": A, "status": "waiting", "run": 2}, deferred, run=2)
    queue = MemoryQueue(clock=ManualClock(NOON))
    sweep = OpenWorkSweep(database=database, queue=queue)
    assert await sweep.sweep(NOON + timedelta(seconds=1)) == 0, "it is in somebody's hands"
    assert await sweep.sweep(NOON + timedelta(seconds=3)) == 2
    assert {job.job_id for job in queue.waiting()} == {"sign:reg_1:1", f"collect:reg_2:{A}:2"}
    assert {job.kwargs["request_id"] for job in queue.waiting()} == {"req_12345678"}
    assert await sweep.sweep(NOON + timedelta(seconds=4)) == 0, "a job that waits refuses its double"
    assert await sweep.sweep(NOON + timedelta(seconds=31)) == 1
    assert f"collect:reg_2:{B}:1" in {job.job_id for job in queue.waiting()}


async def test_old_answers_are_forgotten(database: Database) -> None:
    answer = {"body_digest": b"", "status": 202, "location": "", "body": b"", "created_at": NOON}
    row = {"user_id": "anna", "key": "key", **answer}
    await database.transaction(lambda connection: insert(connection, tables.idempotency_keys, [row]))
    sweep = IdempotencySweep(database=database)
    assert await sweep.sweep(NOON + timedelta(hours=23)) == 0
    assert await sweep.sweep(NOON + timedelta(hours=24)) == 1


async def test_a_wiped_queue_loses_no_registration(house: House) -> None:
    await house.ca(approve_after_ms=None)
    async with house.client() as client:
        following = await (await client.register(A, B)).heard("signature.requested requested")
        queue = await _queue(house)
        assert queue
        await house.ca(approve_after_ms=0)
        assert (await following.ended("completed"))["status"] == "completed"


async def _queue(house: House) -> int:
    """Forgets every job; returns how many keys there were."""
    async with Redis.from_url(str(house.settings.valkey_url.get_secret_value())) as redis:  # type: ignore[union-attr]
        keys = [key for key in await redis.keys("arq:*") if b":workers:" not in key]
        return int(await redis.delete(*keys))


async def test_lost_work_is_found_behind_any_number_of_people_who_have_not_signed_yet(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their jobs wait, and nothing is written on their registrations meanwhile, so they stay the oldest."""
    monkeypatch.setattr(sweeping, "MOST", 2)
    for number in range(5):
        await begun(database, f"reg_{number}", "signing", {"org_code": A, "status": "waiting"})
        await begun(database, f"reg_{number + 5}", "collecting", {"org_code": A, "status": "waiting"})
    queue = MemoryQueue(clock=ManualClock(NOON))
    sweep = OpenWorkSweep(database=database, queue=queue)
    found = [await sweep.sweep(NOON + timedelta(seconds=seconds)) for seconds in range(3, 9)]
    assert sum(found) == 10
