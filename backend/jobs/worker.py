"""arq's worker with another claim: it is woken instead of polling, and holds each job by a lease instead of a long timeout.

In: jobs of one queue. Out: each is run at least once; one that failed three times ends in `on_poisoned`.
Valkey restarted, frozen or away: the worker waits and goes on. It installs no signal handlers; whoever runs it calls `stop()`.
Never here: exactly once. A run whose worker stalled may overlap its successor, so effects are fenced by their owners' rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import orjson
import structlog
from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import Function, Worker
from redis.asyncio import Redis

from backend import failpoints
from backend.clock import Clock
from backend.failpoints import Failpoint
from backend.jobs.attempts import GIVEN_BACK, Attempts, OnPoisoned
from backend.jobs.holding import Holding
from backend.jobs.leases import Claimed, Lease, Leases, Run
from backend.jobs.nudging import Nudging
from backend.jobs.outage import Outage
from backend.jobs.queue import QueueName, queue_key
from backend.jobs.renewing import Renewing
from backend.jobs.settling import Settling
from backend.jobs.valkey import VALKEY_AWAY

CLAIMED_AT_ONCE = 32  # a burst is shared among the workers instead of going to the first one awake
HAND_OVER_SECONDS = 2.0  # for cancelled jobs to end, and again for giving back what has not
_OF_ARQ: dict[str, Any] = {"handle_signals": False, "job_serializer": orjson.dumps, "job_deserializer": orjson.loads, "timezone": UTC}

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much a worker does, and for how long. Seconds."""

    lease: float  # after which a silent worker's jobs go to others
    max_jobs: int  # at once
    max_tries: int = 3
    job_timeout: float = 300.0  # of one try
    retry_delay: float = 0.5  # before the second try
    drain: float = 25.0  # that `stop()` leaves running jobs


class LeasedWorker(Worker):
    """Runs `functions` (coroutines, or `arq.func` of them). Build it inside a running loop.

    `redis` makes the client, which the worker owns; `holding` hears of each renewal. A job finds its `lease` in its context, beside arq's
    `job_id`, `job_try`, `enqueue_time`, `score` and `redis`.
    """

    def __init__(
        self,
        functions: Sequence[Function | WorkerCoroutine],
        *,
        queue: QueueName,
        redis: Callable[[], Redis],
        clock: Clock,
        bounds: Bounds,
        holding: Holding | None = None,
        on_poisoned: OnPoisoned | None = None,
    ) -> None:
        client = redis()
        pool = ArqRedis(client.connection_pool, orjson.dumps, orjson.loads, queue_key(queue))
        super().__init__(functions, queue_name=queue_key(queue), redis_pool=pool, max_jobs=bounds.max_jobs, ctx={"redis": pool}, **_OF_ARQ)
        self._clock = clock
        self._bounds = bounds
        self._client = client
        self._leases = Leases(redis=client, queue=queue, lease=bounds.lease)
        self._nudging = Nudging(self._leases)
        self._attempts = Attempts(
            clock=clock,
            functions={name: function for name, function in self.functions.items() if isinstance(function, Function)},
            ctx=self.ctx,
            max_tries=bounds.max_tries,
            job_timeout=bounds.job_timeout,
            retry_delay=bounds.retry_delay,
            on_poisoned=on_poisoned,
        )
        self._runs: dict[str, Run] = {}
        self._renewing = Renewing(
            leases=self._leases, lease=bounds.lease, clock=clock, runs=self._runs, let_go=self._take_away, holding=holding or Holding(clock)
        )
        self._settling = Settling(self._leases, self._forget)
        self._some_settled = asyncio.Event()
        self._free = asyncio.Event()  # set while there is a slot
        self._free.set()
        self._last_claim = asyncio.timeout(None)
        self._drained_by: float | None = None  # on the monotonic clock; None: not told to stop

    @property
    def worker_id(self) -> str:
        """The name under which this worker counts as alive."""
        return self._leases.worker_id

    def stop(self) -> None:
        """Claims nothing more; `run()` returns when the running jobs have ended or were handed over."""
        self._drained_by = self._clock.monotonic() + self._bounds.drain
        self._free.set()
        self._nudging.now()
        with suppress(RuntimeError):  # not begun yet, or over
            self._last_claim.reschedule(self.loop.time() + HAND_OVER_SECONDS)

    async def run(self) -> None:  # type: ignore[override]  # arq's is the blocking form
        """Runs until `stop()`, or until it is cancelled: then every running job is handed over at once."""
        await self.main()

    async def main(self) -> None:
        """What arq's own ways of running call."""
        log.info("worker.started", queue=self.queue_name, worker=self.worker_id)
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(helper) for helper in (self._renewing.run(), self._settling.run())]
            try:
                drained_by = await self._claiming()
                await self._wait_until_idle(drained_by - self._clock.monotonic())
            finally:
                await self._hand_over()
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
                await asyncio.create_task(self.close())

    async def close(self) -> None:
        """Gives back what is still held, and closes the connections. A Valkey that is away does not hold it up for long."""
        held = [(job_id, run.lease.owner, run.settlement or GIVEN_BACK) for job_id, run in self._runs.items()]
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._leases.settle(held)
                await self._leases.leave()
                await self._leases.claim(0)  # a token that was taken and not used goes to somebody else
        except (*VALKEY_AWAY, TimeoutError) as exc:
            log.warning("worker.left_silently", held=len(held), error=type(exc).__name__)
        await self._nudging.close()
        await self._client.aclose()
        log.info("worker.stopped", queue=self.queue_name, worker=self.worker_id)

    async def _claiming(self) -> float:
        """Until `stop()`. Returns the moment by which the running jobs must have ended."""
        with suppress(TimeoutError):  # Valkey is frozen, and we are to stop
            async with self._last_claim:
                await self._claim_again_and_again()
        return self._drained_by or self._clock.monotonic()

    async def _claim_again_and_again(self) -> None:
        outage = Outage("claiming")
        to_be_woken = False  # whether there is nothing to claim before something wakes us
        while self._drained_by is None:
            try:
                if outage.lasting:
                    await self._renewing.once()  # what we still hold is ours before it is anybody's
                to_be_woken = await self._claim(woken=to_be_woken)
                outage.over()
                await self._free.wait()
            except VALKEY_AWAY as exc:
                to_be_woken = False
                await outage.pause(exc)

    async def _claim(self, *, woken: bool) -> bool:
        """Starts what is due, as far as there are slots. Returns whether the next claim is to wait until something wakes us."""
        slots = min(self.max_jobs - len(self._runs), CLAIMED_AT_ONCE)
        until = self._clock.monotonic() + self._bounds.lease
        claims = await self._leases.claim(slots, woken=woken)
        if self._drained_by is not None or self._clock.monotonic() >= until:  # we stop, or stood still: others may have them by now
            await self._leases.settle([(claimed.job_id, claims.owner, GIVEN_BACK) for claimed in claims.jobs])
            return False
        for claimed in claims.jobs:
            self._start(claimed, claims.owner, until)
        if len(self._runs) >= self.max_jobs:
            self._free.clear()
            return False  # somebody may have waited while we were full
        self._nudging.after(claims.next_due)
        return claims.next_due != 0

    def _start(self, claimed: Claimed, owner: str, until: float) -> None:
        if claimed.payload is None:
            log.warning("job.expired", job_id=claimed.job_id)
            return
        claim = Run(claimed, Lease(claimed.job_id, owner, until, self._clock))
        run = self._runs.get(claimed.job_id)
        if run is None:
            self._begin(claim)
        elif run.settling:
            run.next = claim
        else:  # Valkey lost our lease, not we the job: go on with it under the new one
            run.lease.owner, run.lease.until, run.lease.lost = owner, until, False

    def _begin(self, run: Run) -> None:
        self._runs[run.claimed.job_id] = run
        self.tasks[run.claimed.job_id] = self.loop.create_task(self._work(run))

    async def _work(self, run: Run) -> None:
        run.settlement = await self._attempts.make(run)
        failpoints.reached(Failpoint.JOB_BEFORE_ACK)
        self._settling.ended(run)

    def _forget(self, run: Run) -> None:
        del self._runs[run.claimed.job_id], self.tasks[run.claimed.job_id]
        self._count(run)
        if run.next is not None and not run.taken_away:
            self._begin(run.next)
        self._free.set()
        self._some_settled.set()

    def _count(self, run: Run) -> None:
        """arq's counters."""
        if run.settlement is None or run.settlement.again_in is not None:
            self.jobs_retried += 1
        elif run.settlement.failed:
            self.jobs_failed += 1
        else:
            self.jobs_complete += 1

    def _take_away(self, run: Run) -> asyncio.Task[None]:
        run.taken_away = True
        task = self.tasks[run.claimed.job_id]
        task.cancel()
        return task

    async def _hand_over(self) -> None:
        """Cancels what still runs, so that another worker may have it at once."""
        for run in self._runs.values():
            if run.settlement is None:
                self._take_away(run)
        await self._wait_until_idle(HAND_OVER_SECONDS)

    async def _wait_until_idle(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._runs:
                    self._some_settled.clear()
                    await self._some_settled.wait()
        except TimeoutError:
            log.warning("worker.still_busy", running=len(self._runs), seconds=seconds)
