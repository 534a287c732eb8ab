"""What a job's end means for the job. Where arq does the same the test says so; docs/decisions/0003 lists where it does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
import structlog
from arq.worker import Retry, func
from structlog.testing import capture_logs

from backend.errors import EngineUnavailable
from backend.jobs.queue import Job, Postponed


class Failing:
    """A job that fails so many times, and the owner who hears of it."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self._left = times
        self._error = error or ValueError("account 110-1234-5678")
        self.tries: list[int] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.owner_fails = 0

    async def work(self, ctx: dict[str, Any], **kwargs: Any) -> None:
        self.tries.append(ctx["job_try"])
        if self._left:
            self._left -= 1
            raise self._error

    async def on_poisoned(self, function: str, kwargs: dict[str, Any]) -> None:
        if self.owner_fails:
            self.owner_fails -= 1
            raise ConnectionError
        self.told.append((function, kwargs))


def work_of(failing: Failing, **options: Any) -> Any:
    return func(failing.work, name="work", **options)


# --- as arq ----------------------------------------------------------------------------------------------------------


async def test_a_job_finds_its_context(jobs: Any) -> None:
    seen: dict[str, Any] = {}

    async def work(ctx: dict[str, Any], *, n: int, names: list[str]) -> None:
        seen.update(ctx, n=n, names=names)

    before = datetime.now(UTC) - timedelta(milliseconds=5)
    await jobs.enqueue(work.__qualname__, n=7, names=["a", "b"])
    worker = await jobs.run_all(work)
    assert (seen["n"], seen["names"]) == (7, ["a", "b"])
    assert (seen["job_id"], seen["job_try"]) == ("job", 1)
    assert before <= seen["enqueue_time"] <= datetime.now(UTC)
    assert abs(seen["score"] / 1000 - datetime.now(UTC).timestamp()) < 5
    assert {"redis", "lease"} <= seen.keys()
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (1, 0, 0)


async def test_an_ended_job_leaves_no_key(jobs: Any) -> None:
    good = Failing(0)
    await jobs.enqueue("work")
    await jobs.run_all(work_of(good))
    assert await jobs.keys() == set()


async def test_a_failed_job_leaves_no_key_either(jobs: Any) -> None:
    bad = Failing(9)
    await jobs.enqueue("work")
    await jobs.run_all(work_of(bad))
    assert await jobs.keys() == set()
    assert await jobs.enqueue("work") == 1  # and its id is free


async def test_retry_runs_the_job_again_after_its_delay(jobs: Any) -> None:
    failing = Failing(1, Retry(defer=0.1))
    await jobs.enqueue("work")
    worker = await jobs.run_all(work_of(failing))
    assert failing.tries == [1, 2]
    assert (worker.jobs_complete, worker.jobs_retried) == (1, 1)


async def test_retry_counts_as_a_try(jobs: Any) -> None:
    failing = Failing(99, Retry())
    await jobs.enqueue("work")
    worker = await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1, 2, 3]
    assert len(failing.told) == 1
    assert (worker.jobs_failed, worker.jobs_retried) == (1, 2)


async def test_a_function_may_have_its_own_number_of_tries(jobs: Any) -> None:
    failing = Failing(99)
    await jobs.enqueue("work")
    await jobs.run_all(work_of(failing, max_tries=1), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1]
    assert len(failing.told) == 1


@pytest.mark.parametrize("where", ["worker", "function"])
async def test_a_job_that_takes_too_long_is_cancelled_and_has_failed(jobs: Any, where: str) -> None:
    cancelled = 0

    async def work(ctx: dict[str, Any]) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    await jobs.enqueue("work")
    function = func(work, name="work", timeout=0.02 if where == "function" else None)
    worker = await jobs.run_all(function, job_timeout=0.02 if where == "worker" else 60)
    assert (cancelled, worker.jobs_failed) == (3, 1)


async def test_a_job_that_outlived_its_day_is_dropped(jobs: Any) -> None:
    never = Failing(0)
    await jobs.enqueue("work")
    await jobs.redis.delete("arq:job:job")
    await jobs.run_all(work_of(never))
    assert never.tries == []
    assert await jobs.keys() == set()


@pytest.mark.parametrize(
    "payload", [b"\x80\x04K\x01.", b"[]", b'{"f":1,"a":[],"k":{},"t":null,"et":1}', b'{"f":"work","a":7,"k":{},"t":1,"et":1}']
)
async def test_a_payload_that_nobody_can_read_is_dropped(jobs: Any, payload: bytes) -> None:
    never = Failing(0)
    await jobs.enqueue("work")
    await jobs.redis.set("arq:job:job", payload)
    worker = await jobs.run_all(work_of(never))
    assert worker.jobs_failed == 1
    assert await jobs.keys() == set()


async def test_a_job_that_raises_cancellation_itself_is_tried_again(jobs: Any) -> None:
    failing = Failing(1, asyncio.CancelledError())
    await jobs.enqueue("work")
    await jobs.run_all(work_of(failing))
    assert failing.tries == [1, 2]


def test_only_coroutines_are_jobs() -> None:
    with pytest.raises(RuntimeError, match="not a coroutine function"):
        func(lambda ctx: None)  # type: ignore[arg-type]


# --- unlike arq ------------------------------------------------------------------------------------------------------


async def test_a_failing_job_is_tried_again(jobs: Any) -> None:
    failing = Failing(2)
    await jobs.enqueue("work")
    worker = await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1, 2, 3]
    assert failing.told == []
    assert worker.jobs_complete == 1


async def test_a_poison_job_ends_after_three_tries_and_its_owner_is_told_once(jobs: Any) -> None:
    failing = Failing(99)
    await jobs.enqueue("work", link="l1")
    worker = await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1, 2, 3]
    assert failing.told == [("work", {"link": "l1"})]
    assert worker.jobs_failed == 1


async def test_a_job_that_kills_its_workers_ends_without_a_fourth_try(jobs: Any) -> None:
    failing = Failing(0)
    await jobs.enqueue("work")
    await jobs.redis.set("arq:retry:job", 3)  # three workers claimed it and died
    await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == []
    assert len(failing.told) == 1


async def test_an_owner_who_could_not_be_told_is_told_later_and_the_job_is_not_run_again(
    jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.jobs.attempts.ENGINE_PAUSE", 0.01)
    failing = Failing(99)
    failing.owner_fails = 2
    await jobs.enqueue("work")
    await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1, 2, 3]
    assert len(failing.told) == 1


async def test_a_function_that_this_worker_does_not_know_may_be_known_to_another(jobs: Any) -> None:
    good = Failing(0)
    await jobs.enqueue("work")

    async def something_else(ctx: dict[str, Any]) -> None: ...

    async with jobs.running(something_else) as old:
        await jobs.until(lambda: old.jobs_retried)
    await jobs.run_all(work_of(good))
    assert len(good.tries) == 1


async def test_an_engine_that_is_away_costs_no_try(jobs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.jobs.attempts.ENGINE_PAUSE", 0.01)
    failing = Failing(5, EngineUnavailable("PostgreSQL"))
    await jobs.enqueue("work")
    await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    assert failing.tries == [1] * 6
    assert failing.told == []


async def test_a_postponed_job_runs_again_at_its_time_as_if_it_were_new(jobs: Any) -> None:
    ran: list[tuple[int, datetime]] = []

    async def work(ctx: dict[str, Any]) -> None:
        ran.append((ctx["job_try"], datetime.now(UTC)))
        if len(ran) <= 5:
            raise Postponed(datetime.now(UTC) + timedelta(milliseconds=30))

    await jobs.enqueue(work.__qualname__)
    await jobs.run_all(work)
    assert [job_try for job_try, _ in ran] == [1] * 6
    pauses = [later - sooner for (_, sooner), (_, later) in pairwise(ran)]
    assert timedelta(milliseconds=29) <= min(pauses)
    assert max(pauses) < timedelta(milliseconds=500)  # a worker looks unasked only each second


async def test_a_postponed_job_keeps_its_id_and_gets_a_new_day(jobs: Any) -> None:
    async def work(ctx: dict[str, Any]) -> None:
        raise Postponed(datetime.now(UTC) + timedelta(days=9))

    await jobs.enqueue(work.__qualname__)
    async with jobs.running(work) as worker:
        await jobs.until(lambda: worker.jobs_retried)
    assert await jobs.enqueue(work.__qualname__) == 0
    assert await jobs.redis.ttl("arq:job:job") > 9.9 * 86400
    assert await jobs.redis.zcard("arq:queue:interactive") == 1


# --- logs ------------------------------------------------------------------------------------------------------------


async def test_logs_name_the_job_and_the_place_and_nothing_that_it_holds(jobs: Any) -> None:
    failing = Failing(99)
    await jobs.enqueue("work", link="l-secret")
    structlog.contextvars.clear_contextvars()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as entries:
        await jobs.run_all(work_of(failing), on_poisoned=failing.on_poisoned)
    failed = [entry for entry in entries if entry["event"] == "job.failed"]
    assert len(failed) == 3
    assert (failed[0]["function"], failed[0]["job_id"], failed[0]["error"]) == ("work", "job", "ValueError")
    assert " work" in failed[0]["where"]
    assert "l-secret" not in str(entries)
    assert "110-1234-5678" not in str(entries)


async def test_the_request_id_of_a_job_is_in_its_log_context_only(jobs: Any) -> None:
    seen: dict[str, Any] = {}

    async def work(ctx: dict[str, Any], **kwargs: Any) -> None:
        seen[ctx["job_id"]] = structlog.contextvars.get_contextvars().get("request_id")

    request = orjson.loads(b'{"request_id":"req_1"}')
    await jobs.queue.enqueue([Job(work.__qualname__, request, "traced"), Job(work.__qualname__, {}, "untraced")])
    await jobs.run_all(work)
    assert seen == {"traced": "req_1", "untraced": None}
    assert "request_id" not in structlog.contextvars.get_contextvars()
