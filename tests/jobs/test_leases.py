"""Who has a job, and for how long: renewed, lost, and remembered after its end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from backend.jobs.leases import NOBODY, Leases, Settlement
from backend.jobs.queue import Job, QueueName
from tests.jobs.book import Book, functions


async def test_a_job_whose_worker_died_goes_to_another_after_the_lease(jobs: Any, book: Book) -> None:
    dead = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=0.3)
    await jobs.enqueue("quick")
    claimed_at = time.time()
    [claimed] = (await dead.claim(10)).jobs  # and never a word again
    assert claimed.tries == 1
    await jobs.run_all(*functions(book))
    assert 0.25 < book.at["job"] - claimed_at < 1.5


async def test_a_long_job_keeps_its_lease(jobs: Any, book: Book) -> None:
    await jobs.enqueue("hold")
    async with jobs.running(*functions(book)), jobs.running(*functions(book)):
        await asyncio.sleep(1.0)  # more than three leases
        assert book.started == ["job"]
        book.release.set()
        await jobs.emptied()
    assert book.ended == ["job"]


async def test_a_lost_lease_cancels_the_zombie_and_spares_the_owner(jobs: Any, book: Book) -> None:
    seen = []

    async def work(ctx: dict[str, Any]) -> None:
        seen.append(ctx["lease"])
        assert ctx["lease"].owned()
        await book.hold(ctx)

    await jobs.queue.enqueue([Job(work.__qualname__, {}, "job")])
    async with jobs.running(work):
        await jobs.until(lambda: book.started)
        await jobs.redis.set("arq:in-progress:job", "somebody else")
        await jobs.until(lambda: book.cancelled)
        assert not seen[0].owned()
        await asyncio.sleep(0.05)
        assert await jobs.redis.get("arq:in-progress:job") == b"somebody else"
        assert await jobs.redis.exists("arq:job:job")
        await jobs.redis.delete("arq:queue:interactive")


async def test_a_lease_that_nobody_renews_is_no_longer_owned(jobs: Any, book: Book) -> None:
    owned: list[bool] = []

    async def work(ctx: dict[str, Any]) -> None:
        owned.append(ctx["lease"].owned())
        time.sleep(0.4)  # noqa: ASYNC251  # a stalled loop is the point
        owned.append(ctx["lease"].owned())

    await jobs.queue.enqueue([Job(work.__qualname__, {}, "job")])
    await jobs.run_all(work)
    assert owned[:2] == [True, False]


async def test_a_late_end_counts_while_nobody_else_has_claimed(jobs: Any) -> None:
    leases = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=0.05)
    await jobs.enqueue("quick")
    owner = (await leases.claim(1)).owner
    await asyncio.sleep(0.1)
    assert await leases.settle([("job", owner, Settlement())]) == {}
    assert await jobs.keys() == set()


async def test_a_late_end_changes_nothing_once_somebody_else_has_claimed(jobs: Any) -> None:
    zombie = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=0.05)
    heir = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5)
    await jobs.enqueue("quick")
    late = (await zombie.claim(1)).owner
    await asyncio.sleep(0.1)
    owner = (await heir.claim(1)).owner
    assert await zombie.settle([("job", late, Settlement())]) == {"job": owner}
    assert await zombie.renew([("job", late)]) == {"job": owner}
    assert await heir.renew([("job", owner)]) == {}
    assert await jobs.redis.exists("arq:job:job")


async def test_a_claim_whose_answer_was_lost_costs_a_running_job_nothing(jobs: Any, book: Book) -> None:
    await jobs.enqueue("hold")
    async with jobs.running(*functions(book)) as worker:
        await jobs.until(lambda: book.started)
        # As a frozen Valkey does it on thawing: a claim of this worker that nobody waits for any more.
        await jobs.redis.set("arq:in-progress:job", f"{worker.worker_id}:999")
        await asyncio.sleep(0.4)  # more than a lease
        await jobs.redis.set("arq:in-progress:job", f"{worker.worker_id}:1000")
        book.release.set()
        await jobs.emptied()
    assert (book.started, book.cancelled) == (["job"], [])
    assert await jobs.keys() == set()


async def test_a_worker_that_claims_its_own_running_job_goes_on_with_it(jobs: Any, book: Book) -> None:
    await jobs.enqueue("hold")
    async with jobs.running(*functions(book)):
        await jobs.until(lambda: book.started)
        # As if Valkey had lost the claim in a crash: the job is due and nobody owns it.
        await jobs.redis.delete("arq:in-progress:job")
        await jobs.redis.zadd("arq:queue:interactive", {"job": 1})
        await jobs.enqueue("quick", job_id="other")  # wakes the worker before it renews
        await jobs.until(lambda: "other" in book.started)
        book.release.set()
        await jobs.emptied()
    assert book.started.count("job") == 1
    assert book.cancelled == []
    assert await jobs.keys() == set()


async def test_what_valkey_forgot_stays_with_whoever_claimed_it_meanwhile(jobs: Any) -> None:
    forgotten, heir = (Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5) for _ in range(2))
    await jobs.enqueue("work")
    before = await forgotten.claim(1)
    await jobs.redis.flushall()
    assert await forgotten.renew([("job", before.owner)]) == {"job": NOBODY}
    await jobs.enqueue("work")
    owner = (await heir.claim(1)).owner
    assert await forgotten.retake([(before.jobs[0], before.owner)]) == {"job": owner}
    assert await heir.renew([("job", owner)]) == {}


async def test_what_is_taken_anew_and_dies_then_is_claimed_with_its_tries_counted_on(jobs: Any) -> None:
    dead = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=0.05)
    heir = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5)
    await jobs.enqueue("work", name="value")
    before = await dead.claim(1)
    await jobs.redis.flushall()
    assert await dead.retake([(before.jobs[0], before.owner)]) == {}
    assert (await heir.claim(1)).jobs == ()  # not while the lease lasts
    await asyncio.sleep(0.1)
    [claimed] = (await heir.claim(1)).jobs
    assert (claimed.payload, claimed.tries) == (before.jobs[0].payload, 2)
