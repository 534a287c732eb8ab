"""The queue port: what the rest of Moa may ask of background work.

In: frozen `Job`s, many in one round trip. Out: how many were new; a job id that waits or runs is refused quietly.
`ValkeyQueue` writes arq's own keys and wire format with JSON for pickle; `MemoryQueue` is its twin. Nothing is run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias

import orjson
from arq.constants import expires_extra_ms
from arq.jobs import serialize_job
from msgspec import Struct
from redis.asyncio import Redis

from backend.clock import Clock
from backend.jobs.valkey import engine_errors

JSON: TypeAlias = bool | int | float | str | list["JSON"] | dict[str, "JSON"] | None

MOST_WAKE_TOKENS = 64  # more workers than that are not woken by one batch, but by each other
JOBS_AT_ONCE = 1000  # in one script: Valkey serves nobody else meanwhile (about 5 ms)


class QueueName(StrEnum):
    """One queue and one pool of workers per class of work, since arq knows no priorities."""

    INTERACTIVE = "interactive"  # a person is waiting
    BATCH = "batch"


class Job(Struct, frozen=True):
    """Something to run. `kwargs` hold ids, never tokens: they lie in Valkey as they are."""

    function: str
    kwargs: dict[str, JSON]
    job_id: str
    run_at: datetime | None = None  # None: at once

    def __repr__(self) -> str:
        return f"Job({self.function}, {self.job_id})"


class Postponed(Exception):  # what happened to the job, not a fault
    """Raised by a job that has to wait for something outside: it runs again at `run_at` under the same id, and no try is counted."""

    def __init__(self, run_at: datetime) -> None:
        super().__init__(run_at.isoformat())
        self.run_at = run_at


class JobQueue(Protocol):
    """Where jobs are left."""

    async def enqueue(self, jobs: Sequence[Job], queue: QueueName = QueueName.INTERACTIVE) -> int:
        """How many of `jobs` were new. A job id that waits or runs, on any queue, is refused; one whose job ended is free again.

        Raises `EngineUnavailable`; then some may have been stored, and asking again is right.
        """
        ...


def queue_key(queue: QueueName) -> str:
    """arq's sorted set of job ids; the score is when a job may be claimed, in Unix ms."""
    return f"arq:queue:{queue}"


def wake_key(queue: QueueName) -> str:
    """A short list of tokens; each wakes one waiting worker."""
    return f"{queue_key(queue)}:wake:v1"


def lua(name: str) -> str:
    """The text of a script of this room."""
    return Path(__file__).with_name(f"{name}.lua").read_text()


class ValkeyQueue:
    """arq's queue. Due times are set by Valkey's clock; only delays are computed here, so a wrong clock here does no harm."""

    def __init__(self, *, redis: Redis, clock: Clock) -> None:
        self._clock = clock
        self._script = redis.register_script(lua("enqueue"))

    async def enqueue(self, jobs: Sequence[Job], queue: QueueName = QueueName.INTERACTIVE) -> int:
        """See `JobQueue`. One round trip for up to 1,000 jobs."""
        keys = [queue_key(queue), wake_key(queue)]
        now = self._clock.now()
        new = 0
        for start in range(0, len(jobs), JOBS_AT_ONCE):
            arguments: list[str | bytes | int] = [MOST_WAKE_TOKENS, expires_extra_ms]
            for job in jobs[start : start + JOBS_AT_ONCE]:
                arguments += job.job_id, _payload(job, now), _delay_ms(job, now)
            with engine_errors():
                new += await self._script(keys, arguments)
        return new


def _payload(job: Job, now: datetime) -> bytes:
    return serialize_job(job.function, (), job.kwargs, None, int(now.timestamp() * 1000), serializer=orjson.dumps)


def _delay_ms(job: Job, now: datetime) -> int:
    """0 for a moment that has passed; a part of a millisecond counts as one."""
    if job.run_at is None:
        return 0
    return max(0, -((now - job.run_at) // timedelta(milliseconds=1)))


class MemoryQueue:
    """The twin for tests: what was left, what may start, what runs."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[QueueName, Job]] = {}
        self._running: set[str] = set()

    async def enqueue(self, jobs: Sequence[Job], queue: QueueName = QueueName.INTERACTIVE) -> int:
        """See `JobQueue`."""
        new = 0
        for job in jobs:
            if job.job_id not in self._waiting and job.job_id not in self._running:
                self._waiting[job.job_id] = (queue, job)
                new += 1
        return new

    def waiting(self, queue: QueueName = QueueName.INTERACTIVE) -> list[Job]:
        """Every job that has not been taken, deferred ones too, in the order in which they came."""
        return [job for where, job in self._waiting.values() if where == queue]

    def take(self, queue: QueueName = QueueName.INTERACTIVE) -> list[Job]:
        """Takes every job that is due; they run until `end`."""
        now = self._clock.now()
        due = [job for job in self.waiting(queue) if job.run_at is None or job.run_at <= now]
        for job in due:
            del self._waiting[job.job_id]
            self._running.add(job.job_id)
        return due

    def end(self, job_id: str) -> None:
        """The job ended: its id may be used again."""
        self._running.discard(job_id)
