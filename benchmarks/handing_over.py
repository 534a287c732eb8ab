"""The page `jobs`: from the call that leaves a job until its handler is entered, ours beside a bare BLMOVE and beside arq's own worker.

In: rounds. Out: pick-up times with nothing and with much in flight, the CPU of a job, the CPU of waiting. Whoever takes is a fresh process
in each round, Valkey a third one; this process only leaves jobs.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from arq.connections import ArqRedis
from redis.asyncio import Redis

from backend.clock import SystemClock
from backend.engines import start_valkey
from backend.jobs.queue import Job, QueueName, ValkeyQueue, queue_key
from benchmarks.arrivals import offsets, paced
from benchmarks.companions import Companion, companion
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.takers import RAW_WAITING, wire

IN_FLIGHT = 900
BURST = 2000  # jobs that wait when the taker gets its core
IDLE_SECONDS = 1.2
PATIENCE = 20.0  # seconds for everything that was left to be taken
LOOK_SECONDS = 0.05  # between two looks whether it was

OURS, RAW, STOCK, STOCK_FAST = "ours", "raw BLMOVE", "arq, poll 500 ms", "arq, poll 5 ms"


@dataclass(frozen=True)
class Stage:
    """An empty Valkey."""

    url: str
    redis: Redis


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """The embedded Valkey as `moa up` runs it, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    engine = await asyncio.to_thread(start_valkey, folder)
    redis = wire(engine.url)
    try:
        yield Stage(engine.url, redis)
    finally:
        await redis.aclose()
        await asyncio.to_thread(engine.stop)
        shutil.rmtree(folder, ignore_errors=True)


# --- the ways to leave a job -----------------------------------------------------------------------------------------

Leave = Callable[[str, Sequence[int]], Awaitable[None]]  # function and numbers: in one call, if there is such a call


def by_ours(redis: Redis) -> Leave:
    queue = ValkeyQueue(redis=redis, clock=SystemClock())

    async def leave(function: str, numbers: Sequence[int]) -> None:
        await queue.enqueue([Job(function, {"number": number}, f"job-{number}") for number in numbers])

    return leave


def by_arq(redis: Redis) -> Leave:
    """One job as arq leaves it; many by our script, which writes the same keys, so that a burst is there at once."""
    own = ArqRedis(redis.connection_pool, orjson.dumps, orjson.loads, queue_key(QueueName.INTERACTIVE))
    many = by_ours(redis)

    async def leave(function: str, numbers: Sequence[int]) -> None:
        if len(numbers) > 1:
            await many(function, numbers)
        else:
            await own.enqueue_job(function, number=numbers[0], _job_id=f"job-{numbers[0]}")

    return leave


def by_push(redis: Redis) -> Leave:
    async def leave(function: str, numbers: Sequence[int]) -> None:
        await redis.rpush(RAW_WAITING, *(f"{function[0]}{number}" for number in numbers))  # type: ignore[misc]

    return leave


# --- rounds ----------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """What one round leaves, and what becomes of it."""

    taker: Companion
    leave: Leave
    entered: dict[int, float] = field(default_factory=dict)
    left: dict[int, float] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def cpu(self) -> float:
        """CPU seconds of the taker so far."""
        return float((await self._heard())["cpu"])

    async def picked_up(self, moments: Sequence[float]) -> list[float]:
        """Milliseconds from the beginning of each call until its handler was entered."""
        numbers = [next(self.numbers) for _ in moments]

        async def one(place: int) -> None:
            self.left[numbers[place]] = time.monotonic()
            await self.leave("note", [numbers[place]])

        self.late += await paced(moments, one)
        await self._until(lambda: all(number in self.entered for number in numbers))
        return [(self.entered[number] - self.left[number]) * 1000 for number in numbers]

    async def waited(self) -> float:
        """CPU in % of a core of a taker that has nothing to do."""
        cpu, moment = await self.cpu(), time.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        return 100 * (await self.cpu() - cpu) / (time.monotonic() - moment)

    async def burst(self) -> tuple[float, float]:
        """Jobs a second, and a second of CPU, when many wait at once."""
        numbers = [next(self.numbers) for _ in range(BURST)]
        cpu = await self.cpu()
        self.taker.freeze()
        try:
            await self.leave("note", numbers)
        finally:
            moment = time.monotonic()
            self.taker.thaw()
        await self._until(lambda: numbers[-1] in self.entered and len(self.entered.keys() & set(numbers)) == BURST)
        await asyncio.sleep(LOOK_SECONDS)  # the last ones are settled, too
        seconds = max(self.entered[number] for number in numbers) - moment
        return BURST / seconds, BURST / (await self.cpu() - cpu)

    async def hold(self, jobs: int) -> None:
        """Returns when so many run for ever."""
        await self.leave("hold", [next(self.numbers) for _ in range(jobs)])
        async with asyncio.timeout(PATIENCE):
            while (await self._heard())["held"] < jobs:
                await asyncio.sleep(LOOK_SECONDS)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(LOOK_SECONDS)
                await self._heard()

    async def _heard(self) -> dict[str, float]:
        answer: dict[str, float] = await self.taker.ask(all=True)
        self.entered.update(answer["entered"])  # type: ignore[call-overload]  # pairs of number and moment
        return answer


def _variant(name: str, about: str, taker: tuple[str, ...], leave: Callable[[Redis], Leave]) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        await on.redis.flushall()
        plan, busy = each.plan, machine_ms()
        async with companion("benchmarks.takers", *taker, "--url", on.url) as process:
            load = Load(process, leave(on.redis))
            await load.picked_up(offsets(plan.rate, plan.warm_up, each.seed))
            load.late.clear()
            alone = await load.picked_up(offsets(plan.rate, plan.seconds, each.seed))
            waiting = await load.waited()
            by_second, by_cpu_second = await load.burst()
            await load.hold(IN_FLIGHT)
            among = await load.picked_up(offsets(plan.rate, plan.seconds, each.seed))
        return {
            "alone": alone,
            "among": among,
            "late": [late * 1000 for late in load.late],
            "busy": busy_percent(busy, machine_ms()),
            "waiting": [waiting],
            "by second": [by_second],
            "by cpu second": [by_cpu_second],
        }

    return Variant(name=name, about=about, run=run)


# --- the page --------------------------------------------------------------------------------------------------------

_P50, _P99, _MEAN, _COUNT = Statistic.P50, Statistic.P99, Statistic.MEAN, Statistic.COUNT
_PICK_UP, _COST = "From the call to the handler", "What it costs"
_MANY = f"{IN_FLIGHT} in flight"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="jobs",
    title="Background jobs: how soon they start, and what they cost",
    about=(
        "How long does a job wait until somebody works on it, and what does the waiting cost? Time runs from the beginning of the call "
        "that leaves the job until the first line of its handler, in another process. All variants leave and take at the same embedded "
        "Valkey (append-only file on, Unix socket) through the same client with the same pool, on uvloop. Whoever takes is a new process "
        "in each round.",
        "**Open loop.** Jobs are left at the moments of a seeded Poisson process, each by a task of its own, whether or not those before "
        "have started; the moments of round n are the same for every variant. How long a task waits for the generator's core before its "
        "call begins stands in its own column (timers have steps of a millisecond). All moments are of the machine's one monotonic clock.",
        f"**In flight**: {IN_FLIGHT} jobs that have started and wait for somebody else, as a call to a provider does. **A burst**: {BURST} "
        "jobs that do nothing are left while the taker is frozen; time runs from when it is let go. CPU is that of the taking process, of "
        f"the burst from its freezing until the last job is settled, and of {IDLE_SECONDS:g} s with nothing to do.",
        "arq's worker runs with JSON for pickle and keeps no results, which favours it, and with as many jobs at once as ours; a burst is "
        "left for it by our script, which writes its keys. BLMOVE is no queue: nobody finds what its taker dropped, and nothing is "
        "settled. It is the floor of a hand-over.",
    ),
    stage=stage,
    variants=(
        _variant(OURS, "`LeasedWorker`, woken by a token, claims by lease; jobs left by `ValkeyQueue`.", ("leased",), by_ours),
        _variant(RAW, "RPUSH here, BLMOVE into a second list there.", ("raw",), by_push),
        _variant(STOCK, "arq's `Worker` and `enqueue_job` with the poll that arq comes with.", ("stock", "--poll", "0.5"), by_arq),
        _variant(
            STOCK_FAST,
            "the same with a short poll; each millisecond it takes a fifth of a core to wait, and starts no sooner with much in flight.",
            ("stock", "--poll", "0.005"),
            by_arq,
        ),
    ),
    tables=(
        Table(
            title=_PICK_UP,
            columns=(
                Column("idle p50", "alone", _P50),
                Column("idle p99", "alone", _P99),
                Column(f"{_MANY} p50", "among", _P50),
                Column(f"{_MANY} p99", "among", _P99),
                Column("jobs", "alone", _COUNT, ""),
                Column("generator late p99", "late", _P99),
                Column("machine busy", "busy", _MEAN, "%"),
            ),
            about=("**Machine busy** counts everybody, strangers too: near 100 % these are the latencies of a queue for a core.",),
        ),
        Table(
            title=_COST,
            columns=(
                Column("burst, jobs a CPU second", "by cpu second", _MEAN, ""),
                Column("burst, jobs a second", "by second", _MEAN, ""),
                Column("nothing to do", "waiting", _MEAN, "% of a core"),
            ),
        ),
    ),
    aims=(
        Aim(variant=OURS, table=_PICK_UP, column="idle p50", most=1.5),
        Aim(variant=OURS, table=_PICK_UP, column="idle p50", most=2.5, over=RAW),
        Aim(variant=OURS, table=_PICK_UP, column=f"{_MANY} p50", most=1.5),
        Aim(variant=OURS, table=_PICK_UP, column=f"{_MANY} p50", most=2.5, over=RAW),
        Aim(variant=OURS, table=_COST, column="burst, jobs a CPU second", least=4000),
        Aim(variant=OURS, table=_COST, column="nothing to do", most=0.5),
    ),
    plan=Plan(rounds=3, seconds=1.2, warm_up=0.3, rate=200),
    quick=Plan(rounds=1, seconds=0.3, warm_up=0.1, rate=100),
)
