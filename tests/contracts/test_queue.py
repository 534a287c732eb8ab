"""The exam of `JobQueue`, the same for the one in Valkey and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from backend.clock import ManualClock
from backend.jobs.leases import Leases, Settlement
from backend.jobs.queue import Job, JobQueue, MemoryQueue, QueueName, ValkeyQueue
from backend.jobs.valkey import connect

BATCH = QueueName.BATCH


class Subject(Protocol):
    queue: JobQueue
    clock: ManualClock

    async def take(self, queue: QueueName = QueueName.INTERACTIVE) -> set[str]:
        """The ids of the jobs that are due; they run from now on."""
        ...

    async def end(self, job_id: str) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
        self.queue = MemoryQueue(clock=self.clock)

    async def take(self, queue: QueueName = QueueName.INTERACTIVE) -> set[str]:
        return {job.job_id for job in self.queue.take(queue)}

    async def end(self, job_id: str) -> None:
        self.queue.end(job_id)


class InValkey:
    def __init__(self, url: str) -> None:
        self.clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
        self.redis = connect(url, timeout=1.0, pool=2)
        self.queue = ValkeyQueue(redis=self.redis, clock=self.clock)
        self._owners: dict[str, tuple[Leases, str]] = {}

    async def take(self, queue: QueueName = QueueName.INTERACTIVE) -> set[str]:
        leases = Leases(redis=self.redis, queue=queue, lease=5)
        claims = await leases.claim(1000)
        self._owners |= {job.job_id: (leases, claims.owner) for job in claims.jobs}
        return {job.job_id for job in claims.jobs}

    async def end(self, job_id: str) -> None:
        leases, owner = self._owners.pop(job_id)
        assert not await leases.settle([(job_id, owner, Settlement())])


@pytest.fixture(params=["memory", "valkey"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    real = InValkey(request.getfixturevalue("valkey_url"))
    yield real
    await real.redis.aclose()


def job(job_id: str, run_at: datetime | None = None) -> Job:
    return Job("collect", {"n": 1}, job_id, run_at)


async def test_no_jobs_are_no_work(subject: Subject) -> None:
    assert await subject.queue.enqueue([]) == 0
    assert await subject.take() == set()


async def test_a_new_job_is_due_at_once(subject: Subject) -> None:
    assert await subject.queue.enqueue([job("a")]) == 1
    assert await subject.take() == {"a"}


async def test_many_jobs_may_come_at_once(subject: Subject) -> None:
    many = [job(f"{number}") for number in range(100)]
    assert await subject.queue.enqueue(many) == 100
    assert await subject.take() == {each.job_id for each in many}


async def test_a_job_id_that_waits_is_refused_quietly(subject: Subject) -> None:
    await subject.queue.enqueue([job("a")])
    assert await subject.queue.enqueue([job("a"), job("b")]) == 1
    assert await subject.take() == {"a", "b"}


async def test_a_job_id_that_comes_twice_in_one_call_counts_once(subject: Subject) -> None:
    assert await subject.queue.enqueue([job("a"), job("a")]) == 1


async def test_a_job_id_that_runs_is_refused_quietly(subject: Subject) -> None:
    await subject.queue.enqueue([job("a")])
    await subject.take()
    assert await subject.queue.enqueue([job("a")]) == 0
    assert await subject.take() == set()


async def test_a_job_id_is_free_again_as_soon_as_its_job_ended(subject: Subject) -> None:
    await subject.queue.enqueue([job("a")])
    await subject.take()
    await subject.end("a")
    assert await subject.queue.enqueue([job("a")]) == 1
    assert await subject.take() == {"a"}


async def test_queues_do_not_see_each_other(subject: Subject) -> None:
    await subject.queue.enqueue([job("a")])
    await subject.queue.enqueue([job("b")], BATCH)
    assert await subject.take(BATCH) == {"b"}
    assert await subject.take() == {"a"}


async def test_a_job_id_is_one_over_all_queues(subject: Subject) -> None:
    await subject.queue.enqueue([job("a")])
    assert await subject.queue.enqueue([job("a")], BATCH) == 0


async def test_a_deferred_job_is_not_due_yet(subject: Subject) -> None:
    later = subject.clock.now() + timedelta(minutes=1)
    assert await subject.queue.enqueue([job("a", later), job("b")]) == 2
    assert await subject.take() == {"b"}
    assert await subject.queue.enqueue([job("a")]) == 0


async def test_a_job_of_the_past_is_due_at_once(subject: Subject) -> None:
    await subject.queue.enqueue([job("a", subject.clock.now() - timedelta(minutes=1))])
    assert await subject.take() == {"a"}
