"""arq's keys and wire format, wake tokens, and what happens while Valkey is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from arq.connections import ArqRedis

from backend.clock import ManualClock, SystemClock
from backend.errors import EngineUnavailable
from backend.jobs.queue import MOST_WAKE_TOKENS, Job, MemoryQueue, QueueName, ValkeyQueue
from backend.jobs.valkey import connect

WAKE = "arq:queue:interactive:wake:v1"


async def test_arq_itself_reads_what_was_left(jobs: Any) -> None:
    await jobs.enqueue("collect", job_id="a", link="l1")
    reader = ArqRedis(jobs.redis.connection_pool, orjson.dumps, orjson.loads, "arq:queue:interactive")
    [job] = await reader.queued_jobs()
    assert (job.function, job.args, job.kwargs, job.job_id) == ("collect", [], {"link": "l1"}, "a")


async def test_each_job_leaves_one_token(jobs: Any) -> None:
    await jobs.queue.enqueue([Job("collect", {}, f"{number}") for number in range(3)])
    assert await jobs.redis.llen(WAKE) == 3


async def test_a_refused_job_leaves_none(jobs: Any) -> None:
    await jobs.enqueue("collect")
    await jobs.enqueue("collect")
    assert await jobs.redis.llen(WAKE) == 1


async def test_tokens_are_bounded(jobs: Any) -> None:
    await jobs.queue.enqueue([Job("collect", {}, f"{number}") for number in range(2500)])
    assert await jobs.redis.llen(WAKE) == MOST_WAKE_TOKENS
    assert await jobs.redis.zcard("arq:queue:interactive") == 2500


async def test_many_jobs_take_one_round_trip(jobs: Any) -> None:
    await jobs.enqueue("collect")  # the script is known from now on
    before = (await jobs.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await jobs.queue.enqueue([Job("collect", {}, f"{number}") for number in range(100)])
    after = (await jobs.redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 1


async def test_a_wrong_clock_here_does_not_move_the_due_time(jobs: Any) -> None:
    clock = ManualClock(datetime(2001, 1, 1, tzinfo=UTC))
    queue = ValkeyQueue(redis=jobs.redis, clock=clock)
    await queue.enqueue([Job("collect", {}, "a", clock.now() + timedelta(seconds=60))])
    seconds, _ = await jobs.redis.time()
    assert abs(await jobs.redis.zscore("arq:queue:interactive", "a") / 1000 - seconds - 60) <= 1.5


async def test_a_job_outlives_its_due_time_by_a_day(jobs: Any) -> None:
    await jobs.queue.enqueue([Job("collect", {}, "a", datetime.now(UTC) + timedelta(days=3))])
    assert timedelta(days=3, hours=23) < timedelta(seconds=await jobs.redis.ttl("arq:job:a")) <= timedelta(days=4)


async def test_valkey_away_is_an_engine_that_is_unavailable(engines_folder: Path) -> None:
    redis = connect(f"unix://{engines_folder}/nobody.sock", timeout=0.5, pool=1)
    with pytest.raises(EngineUnavailable) as caught:
        await ValkeyQueue(redis=redis, clock=SystemClock()).enqueue([Job("collect", {}, "a")])
    assert caught.value.engine == "Valkey"


def test_the_name_of_a_job_shows_no_arguments() -> None:
    assert repr(Job("collect", {"link": "l1"}, "a")) == "Job(collect, a)"


async def test_the_twin_shows_what_waits() -> None:
    queue = MemoryQueue(clock=SystemClock())
    later = Job("collect", {}, "a", datetime.now(UTC) + timedelta(hours=1))
    await queue.enqueue([later], QueueName.BATCH)
    assert queue.waiting(QueueName.BATCH) == [later]
    assert queue.waiting() == []
