"""The page `calling`: what a call to an institution costs us, beside the bare httpx client over the same line.

In: rounds. Out: calls a CPU second, calls a second, CPU and time of one. Whoever calls is a fresh process in each round, the bank another.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from backend.engines import erase_postgres, start_postgres, start_valkey
from backend.storage.migrations import migrate
from benchmarks.companions import companion
from benchmarks.costs import Marks, busy_percent, cpu_ms, machine_ms
from benchmarks.listed_bank import ACCOUNTS, CALLS
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant

AT_ONCE = 50  # calls, and as many connections

PEOPLE_AT_ONCE = 8  # whose collections are under way in the worker, each with up to eight calls
MOST_A_SECOND = 60  # collections of one worker, to have people enough

OURS, CLIENT, LINE = "Transport.call", "httpx client", "line alone"
COLLECTING, AS_COLLECTED = "Collecting", "httpx client, the same calls"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The bank's URL, and the engines for whoever stores."""

    url: str
    folder: Path
    database_url: str
    valkey_url: str

    @property
    def marks(self) -> Marks:
        cluster = (self.folder / "postgres").resolve()
        return {"PostgreSQL": (str(cluster), "postgres"), "Valkey": (str(self.folder), "valkey")}


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """A bank, PostgreSQL with our tables, Valkey; in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(erase_postgres, folder)
        bank = await stack.enter_async_context(companion("benchmarks.listed_bank"))
        engines = []
        for start in (start_postgres, start_valkey):
            engines.append(await asyncio.to_thread(start, folder))
            stack.push_async_callback(asyncio.to_thread, engines[-1].stop)
        database_url, valkey_url = (engine.url for engine in engines)
        await migrate(database_url)
        yield Stage(url=(await bank.ask(url=True))["url"], folder=folder, database_url=database_url, valkey_url=valkey_url)


def _variant(name: str, about: str, way: str) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        plan = each.plan
        async with companion("benchmarks.callers", way, "--url", on.url) as caller:
            await caller.ask(seconds=plan.warm_up, at_once=AT_ONCE)
            busy = machine_ms()
            told = await caller.ask(seconds=plan.seconds, at_once=AT_ONCE)
        return {
            "by cpu second": [told["answered"] / told["cpu"]],
            "by second": [told["answered"] / told["seconds"]],
            "cpu": [told["cpu"] / told["answered"] * 1e6],
            "times": told["times"],
            "busy": busy_percent(busy, machine_ms()),
        }

    return Variant(name=name, about=about, run=run)


async def _collecting(on: Stage, each: Round) -> Samples:
    plan = each.plan
    place = ("--url", on.url, "--database", on.database_url, "--valkey", on.valkey_url, "--folder", str(on.folder))
    async with companion("benchmarks.collectors", *place) as worker:
        await worker.ask(ready=round((plan.seconds + plan.warm_up) * MOST_A_SECOND) + PEOPLE_AT_ONCE)
        await worker.ask(seconds=plan.warm_up, at_once=PEOPLE_AT_ONCE)
        busy, engines = machine_ms(), cpu_ms(on.marks)
        told = await worker.ask(seconds=plan.seconds, at_once=PEOPLE_AT_ONCE)
        used = cpu_ms(on.marks)
    return {
        "by cpu second": [told["answered"] / told["cpu"]],
        "by second": [told["answered"] / told["seconds"]],
        "cpu": [told["cpu"] / told["answered"] * 1e6],
        "facts": [told["facts"]],
        **{f"cpu {name}": [(used[name] - engines[name]) / told["answered"] * 1e3] for name in on.marks},
        "busy": busy_percent(busy, machine_ms()),
    }


_CALLS, _COLLECTIONS = "Calls", "Whole collections, stored and told"

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="calling",
    title="Calls to institutions: what ours adds to the client's own cost",
    about=(
        f"What does it cost to ask a bank for a page of {ACCOUNTS} accounts, and how much of that is ours? The bank is a process that "
        "answers the same page at once, without TLS, over loopback; whoever calls it is a new process in each round, on uvloop. All go "
        "through the same line, `open_wire`: httpx's interface, aiohttp's transport (decision 4).",
        f"**Closed loop**: {AT_ONCE} calls are under way over {AT_ONCE} connections, each followed by the next. Times are those of a "
        "process that does nothing else and has its core full, so they say how long the queue is, not how long a call takes; what counts "
        "is **calls a CPU second**, since that is what a core can carry, whoever else was on the machine.",
    ),
    stage=stage,
    variants=(
        _variant(
            OURS,
            "from the call as a value to typed accounts: deadline, tran-id, bounds, judging, parsing, repeats, log line; no guard.",
            "ours",
        ),
        _variant(CLIENT, "`httpx.AsyncClient.get` and the body's bytes; nothing is read, bounded, judged or logged.", "client"),
        _variant(LINE, "the same request handed to the line itself: the floor of what we chose.", "line"),
        Variant(
            name=COLLECTING,
            about=f"whole collections of {CALLS} calls each as in a registration: the link's flight and papers, lists, details, every "
            "answer stored in PostgreSQL and told to the person's feed in Valkey.",
            run=_collecting,
        ),
        _variant(AS_COLLECTED, "the calls of such collections in turn, as the bare client makes them.", "client-as-collected"),
    ),
    tables=(
        Table(
            title=_CALLS,
            variants=(OURS, CLIENT, LINE),
            columns=(
                Column("calls a CPU second", "by cpu second", Statistic.MEAN, ""),
                Column("CPU of a call", "cpu", Statistic.MEAN, "us"),
                Column("calls a second", "by second", Statistic.MEAN, ""),
                Column("p50", "times", Statistic.P50),
                Column("p99", "times", Statistic.P99),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
        ),
        Table(
            title=_COLLECTIONS,
            variants=(COLLECTING, AS_COLLECTED),
            columns=(
                Column("calls a CPU second", "by cpu second", Statistic.MEAN, ""),
                Column("CPU of a call", "cpu", Statistic.MEAN, "us"),
                Column("PostgreSQL's CPU of a call", "cpu PostgreSQL", Statistic.MEAN, "us"),
                Column("Valkey's CPU of a call", "cpu Valkey", Statistic.MEAN, "us"),
                Column("facts of a call", "facts", Statistic.MEAN, ""),
                Column("calls a second", "by second", Statistic.MEAN, ""),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
            about=(
                f"{PEOPLE_AT_ONCE} people's collections are under way in one process, which is the CPU that is counted; what the engines "
                "take beside it stands in its own columns. Two of a collection's calls are lists, the others are about one account each "
                "and small.",
            ),
        ),
    ),
    aims=(
        Aim(variant=OURS, table=_CALLS, column="calls a CPU second", least=1500),
        Aim(variant=OURS, table=_CALLS, column="calls a CPU second", least=0.6, over=CLIENT),
        Aim(variant=COLLECTING, table=_COLLECTIONS, column="calls a CPU second", least=0.4, over=AS_COLLECTED),
    ),
    plan=Plan(rounds=3, seconds=1.2, warm_up=0.3, rate=0),
    quick=Plan(rounds=1, seconds=0.3, warm_up=0.1, rate=0),
)
