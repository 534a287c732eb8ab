"""What is looked for each second so that nothing accepted is lost: open work without a job, facts left in the outbox, old answers.

In: rows. Out: jobs for everything that is open; a job that waits or runs refuses its double, so asking too often does no harm.
This is how work survives a queue that was wiped and a process that was killed between its commit and its enqueue.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from backend.jobs.queue import Job, JobQueue
from backend.jobs.sweeper import Round
from backend.registration.jobs import collect_job, sign_job
from backend.storage import idempotency, registrations
from backend.storage.database import Database
from backend.storage.outbox import Relay
from backend.storage.registrations import OpenWork

IDLE = timedelta(seconds=2)  # younger work is in somebody's hands
MOST = 1000  # of each kind per sweep; the oldest first, then those behind them


class OpenWorkSweep:
    """Asks for a job for everything that was begun and has not ended."""

    name = "open_work"

    def __init__(self, *, database: Database, queue: JobQueue) -> None:
        self._database = database
        self._queue = queue
        self._unsigned, self._uncollected = Round(), Round()

    async def sweep(self, now: datetime) -> int:
        """How many jobs were missing."""
        idle_since, signing, collecting = now - IDLE, self._unsigned, self._uncollected
        async with self._database.reading() as connection:
            unsigned = await registrations.unsigned(connection, idle_since=idle_since, limit=MOST, skip=signing.skip)
            uncollected = await registrations.uncollected(connection, idle_since=idle_since, now=now, limit=MOST, skip=collecting.skip)
        found = [_job(work) for work in (*unsigned, *uncollected)]
        missing = await self._queue.enqueue(found) if found else 0
        signing.saw(len(unsigned), most=MOST)
        collecting.saw(len(uncollected), most=MOST)
        return missing


def _job(work: OpenWork) -> Job:
    if work.org_code is None:
        return sign_job(work.user_id, work.registration_id, work.run, request_id=work.request_id)
    return collect_job(work.user_id, work.registration_id, work.org_code, work.run, request_id=work.request_id)


class OutboxSweep:
    """Relays the facts that whoever wrote them did not."""

    name = "outbox"

    def __init__(self, *, relay: Relay) -> None:
        self._relay = relay

    async def sweep(self, now: datetime) -> int:
        """For how many users something was left behind."""
        return await self._relay.sweep(now)


class IdempotencySweep:
    """Forgets answers that nobody may ask for any more."""

    name = "idempotency_keys"

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def sweep(self, now: datetime) -> int:
        """How many were forgotten."""
        return await self._database.transaction(lambda connection: idempotency.forget_old(connection, now))
