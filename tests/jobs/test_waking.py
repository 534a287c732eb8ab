"""A worker is woken, and claims at that moment: at once, on time, and no more than it can do."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from arq.jobs import serialize_job
from redis import Redis as Blocking

from backend.jobs.leases import Leases
from backend.jobs.queue import Job, QueueName, lua, queue_key
from tests.jobs.book import WAKE, Book, functions, named


async def test_a_waiting_worker_starts_a_job_at_once(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book)):
        await asyncio.sleep(0.05)  # the worker waits for a token by now
        before = time.time()
        await jobs.enqueue("quick")
        await jobs.emptied()
    assert book.at["job"] - before < 0.3  # far below the second after which it looks by itself


async def test_a_worker_that_waits_while_valkey_forgets_its_scripts_is_woken_all_the_same(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book), lease=60):
        await asyncio.sleep(0.05)
        await jobs.redis.script_flush()
        before = time.time()
        await jobs.enqueue("quick")
        await jobs.emptied()
    assert book.at["job"] - before < 0.3


async def test_a_job_claimed_at_the_moment_of_stopping_is_given_back_at_once_and_uncounted(jobs: Any, book: Book) -> None:
    worker = jobs.worker(*functions(book), lease=60)
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0.05)  # it waits to be woken by now
    payload = serialize_job("quick", (), {}, None, 0, serializer=orjson.dumps)
    with Blocking.from_url(jobs.url) as valkey:  # blocks the loop: Valkey claims the job for the worker, which hears nothing
        valkey.eval(lua("enqueue"), 2, queue_key(QueueName.INTERACTIVE), WAKE, 64, 60_000, "job", payload, 0)
    worker.stop()
    await task
    assert book.started == []
    [claimed] = (await Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5).claim(1)).jobs
    assert claimed.tries == 1


async def test_a_job_claimed_for_a_worker_that_stood_still_is_left_to_whoever_has_it_by_then(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book)):
        await asyncio.sleep(0.05)  # it waits to be woken by now
        payload = serialize_job("quick", (), {}, None, 0, serializer=orjson.dumps)
        with Blocking.from_url(jobs.url) as valkey:  # blocks the loop, as a freeze does
            valkey.eval(lua("enqueue"), 2, queue_key(QueueName.INTERACTIVE), WAKE, 64, 60_000, "job", payload, 0)
            time.sleep(0.35)  # noqa: ASYNC251  # longer than its lease
            valkey.set("arq:in-progress:job", "somebody else")
            valkey.zadd("arq:queue:interactive", {"job": (time.time() + 60) * 1000})
        await asyncio.sleep(0.1)
        assert book.started == []
        assert await jobs.redis.get("arq:in-progress:job") == b"somebody else"
        await jobs.redis.delete("arq:queue:interactive")


async def test_a_job_that_waited_before_the_worker_came_runs(jobs: Any, book: Book) -> None:
    await jobs.enqueue("quick")
    await jobs.run_all(*functions(book))
    assert book.started == ["job"]


async def test_a_deferred_job_starts_on_time(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book)):
        await asyncio.sleep(0.05)
        run_at = datetime.now(UTC) + timedelta(milliseconds=50)
        await jobs.queue.enqueue([Job("quick", {}, "job", run_at)])
        await jobs.emptied()
    assert 0 <= book.at["job"] - run_at.timestamp() < 0.3


async def test_a_nearer_due_time_replaces_a_later_one(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book)):
        now = datetime.now(UTC)
        await jobs.queue.enqueue([Job("quick", {}, "later", now + timedelta(seconds=0.7))])
        await asyncio.sleep(0.05)
        await jobs.queue.enqueue([Job("quick", {}, "sooner", now + timedelta(seconds=0.15))])
        await jobs.emptied()
    assert book.started == ["sooner", "later"]
    assert book.at["sooner"] - now.timestamp() < 0.5


async def test_a_job_of_arqs_own_client_runs_without_a_token(jobs: Any) -> None:
    seen: list[Any] = []

    async def work(ctx: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        seen.append((args, kwargs))

    async with jobs.running(work) as worker:
        await worker.ctx["redis"].enqueue_job(work.__qualname__, 1, "two", three=3)
        await jobs.emptied()
    assert seen == [((1, "two"), {"three": 3})]


async def test_a_worker_that_is_full_takes_no_token(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book), max_jobs=2, lease=60):
        await jobs.queue.enqueue(named("hold", 2))
        await jobs.until(lambda: len(book.started) == 2)
        await jobs.enqueue("quick")
        await asyncio.sleep(0.1)  # time enough to take the token, were it listening
        assert await jobs.redis.llen(WAKE) == 1
        async with jobs.running(*functions(book)):  # woken by that token
            await jobs.until(lambda: "quick" in book.started or "job" in book.started, seconds=0.5)
        book.release.set()
        await jobs.emptied()


async def test_a_full_worker_is_quiet_while_a_job_waits(jobs: Any, book: Book) -> None:
    async with jobs.running(*functions(book), max_jobs=1, lease=60):
        await jobs.enqueue("hold")
        await jobs.until(lambda: book.started)
        await jobs.enqueue("quick", job_id="next")
        before = (await jobs.redis.info("stats"))["total_commands_processed"]
        await asyncio.sleep(0.2)
        after = (await jobs.redis.info("stats"))["total_commands_processed"]
        book.release.set()
        await jobs.emptied()
    assert after - before < 50  # it neither polls nor takes and returns the token again and again


async def test_a_token_that_a_full_worker_took_goes_to_another(jobs: Any, book: Book) -> None:
    leases = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5)
    await jobs.enqueue("quick")
    await jobs.redis.delete(WAKE)  # eaten
    await leases.claim(0)
    assert await jobs.redis.llen(WAKE) == 1


async def test_whoever_takes_the_last_job_leaves_no_token_behind(jobs: Any) -> None:
    leases = Leases(redis=jobs.redis, queue=QueueName.INTERACTIVE, lease=5)
    await jobs.queue.enqueue(named("quick", 5))
    await leases.claim(3)
    assert await jobs.redis.llen(WAKE) >= 1
    await leases.claim(3)
    assert await jobs.redis.llen(WAKE) == 0


async def test_a_freed_slot_is_filled_at_once(jobs: Any, book: Book) -> None:
    await jobs.queue.enqueue(named("hold", 2))
    async with jobs.running(*functions(book), max_jobs=2):
        await jobs.until(lambda: len(book.started) == 2)
        await jobs.enqueue("quick")
        book.release.set()
        await jobs.until(lambda: "job" in book.started, seconds=0.5)
