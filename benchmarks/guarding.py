"""The page `guarding`: what the circuit at the call site costs a call, beside pybreaker by itself and beside nothing.

In: rounds. Out: CPU of a call, closed and open, and of the stream of outcomes. Each way is a fresh process in each round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.companions import companion
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.guards import A_SECOND, CALLS_OF_A_USER, IN_ONE_BREATH, INSTITUTIONS, ONE_FAILS_IN
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant

ATTEMPT, THEIRS, THEIRS_OPEN = "attempt alone", "pybreaker, closed", "pybreaker, open"
OURS, OURS_OPEN = "guard, closed", "guard, open"
STREAM = "outcome stream"


@asynccontextmanager
async def stage() -> AsyncIterator[None]:
    """Nothing is needed."""
    yield


def _variant(name: str, about: str, way: str) -> Variant[None]:
    async def run(_stage: None, each: Round) -> Samples:
        async with companion("benchmarks.guards", way) as caller:
            await caller.ask(seconds=each.plan.warm_up)
            busy = machine_ms()
            told = await caller.ask(seconds=each.plan.seconds)
        return {**{name: [value] for name, value in told.items()}, "busy": busy_percent(busy, machine_ms())}

    return Variant(name=name, about=about, run=run)


_CALL, _OUTCOMES = "A guarded call", f"The outcomes of {A_SECOND:,} calls a second"

BENCHMARK: Benchmark[None] = Benchmark(
    name="guarding",
    title="The circuit at the call site: what it costs a call",
    about=(
        "What does it cost to ask a circuit before every call, and to note how the call ended? The attempt is a coroutine that returns at "
        f"once; the same attempt with nothing around it takes turns with each way in the same process, {IN_ONE_BREATH:,} calls at a time, "
        "so that **beyond the attempt** is a difference of two figures of one breath. Times are CPU of the process.",
        f"**The stream**: {A_SECOND:,} ended calls a second of {INSTITUTIONS} institutions, {CALLS_OF_A_USER} to a user, one failure in "
        f"{ONE_FAILS_IN}, noticed, added up, made into reports and written down as MessagePack. Failures are told at once, so there are "
        "more reports than ten a second. Half of a round makes the same notices at the same pace and throws them away: **beyond the "
        "pacing** is what the stream costs.",
    ),
    stage=stage,
    variants=(
        _variant(ATTEMPT, "a coroutine that awaits it.", "attempt"),
        _variant(THEIRS, "`with breaker.calling()`, its storage in memory; each process decides for itself.", "pybreaker"),
        _variant(THEIRS_OPEN, "the same, refused.", "pybreaker-open"),
        _variant(OURS, "pybreaker over our mirror; judged by the catalogue, noted with API, user and epoch.", "guard"),
        _variant(OURS_OPEN, "refused with a reason and a moment to come back at.", "guard-open"),
        _variant(STREAM, "from the notice to the report's bytes.", "stream"),
    ),
    tables=(
        Table(
            title=_CALL,
            columns=(
                Column("CPU of a call", "cpu", Statistic.MEAN, "us"),
                Column("beyond the attempt", "beyond", Statistic.MEAN, "us"),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
            variants=(ATTEMPT, THEIRS, THEIRS_OPEN, OURS, OURS_OPEN),
        ),
        Table(
            title=_OUTCOMES,
            columns=(
                Column("of a core", "core", Statistic.MEAN, "%"),
                Column("beyond the pacing", "beyond", Statistic.MEAN, "%"),
                Column("bytes of a call", "bytes", Statistic.MEAN, ""),
                Column("machine busy", "busy", Statistic.MEAN, "%"),
            ),
            variants=(STREAM,),
        ),
    ),
    aims=(
        Aim(variant=OURS, table=_CALL, column="beyond the attempt", most=5),
        Aim(variant=OURS_OPEN, table=_CALL, column="beyond the attempt", most=5),
        Aim(variant=STREAM, table=_OUTCOMES, column="beyond the pacing", most=3),
    ),
    plan=Plan(rounds=3, seconds=1.0, warm_up=0.2, rate=0),
    quick=Plan(rounds=1, seconds=0.2, warm_up=0.1, rate=0),
)
