"""The page `calling`: what a call to an institution costs us, beside the bare httpx client over the same line.

In: rounds. Out: calls a CPU second, calls a second, CPU and time of one. Whoever calls is a fresh process in each round, the bank another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.companions import companion
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.listed_bank import ACCOUNTS
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant

AT_ONCE = 50  # calls, and as many connections

OURS, CLIENT, LINE = "Transport.call", "httpx client", "line alone"


@asynccontextmanager
async def stage() -> AsyncIterator[str]:
    """The bank's URL."""
    async with companion("benchmarks.listed_bank") as bank:
        yield (await bank.ask(url=True))["url"]


def _variant(name: str, about: str, way: str) -> Variant[str]:
    async def run(url: str, each: Round) -> Samples:
        plan = each.plan
        async with companion("benchmarks.callers", way, "--url", url) as caller:
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


_CALLS = "Calls"

BENCHMARK: Benchmark[str] = Benchmark(
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
    ),
    tables=(
        Table(
            title=_CALLS,
            columns=(
                Column("calls a CPU second", "by cpu second", Statistic.MEAN, ""),
                Column("CPU of a call", "cpu", Statistic.MEAN, "us"),
                Column("calls a second", "by second", Statistic.MEAN, ""),
                Column("p50", "times", Statistic.P50),
                Column("p99", "times", Statistic.P99),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
        ),
    ),
    aims=(
        Aim(variant=OURS, table=_CALLS, column="calls a CPU second", least=1500),
        Aim(variant=OURS, table=_CALLS, column="calls a CPU second", least=0.6, over=CLIENT),
    ),
    plan=Plan(rounds=3, seconds=1.2, warm_up=0.3, rate=0),
    quick=Plan(rounds=1, seconds=0.3, warm_up=0.1, rate=0),
)
