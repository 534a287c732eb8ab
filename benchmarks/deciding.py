"""The page `deciding`: how soon a whole fleet refuses a provider that died; one coordinator beside a breaker in each process.

In: rounds. Out: from the decision until each node applied it, and how the nodes of a fleet switch: together, or each for itself.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.engines import start_valkey
from benchmarks.companions import Companion, companion
from benchmarks.costs import busy_percent, machine_ms
from benchmarks.leading import IN_A_ROW
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.nodes import CALL_SECONDS, HEALTHY, RATE

FLEETS = (2, 8, 32)  # nodes
TOGETHER = 0.1  # seconds after the first node within which the others are to refuse, too
DEATHS = 3  # of a round


@dataclass(frozen=True)
class Stage:
    """A Valkey of its own, and a coordinator that leads."""

    url: str
    leader: Companion


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """The embedded Valkey as `moa up` runs it."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    engine = await asyncio.to_thread(start_valkey, folder)
    try:
        async with companion("benchmarks.leading", "--valkey", engine.url) as leader:
            yield Stage(engine.url, leader)
    finally:
        await asyncio.to_thread(engine.stop)
        shutil.rmtree(folder, ignore_errors=True)


def _ours(count: int) -> str:
    return f"ours, {count} nodes"


def _theirs(count: int) -> str:
    return f"a breaker in each of {count}"


def _variant(way: str, name: str, about: str, count: int) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        samples: dict[str, list[float]] = {"applied": [], "refused": [], "spread": [], "share": [], "wasted": []}
        async with companion("benchmarks.nodes", way, str(count), "--valkey", on.url) as nodes:
            busy = machine_ms()
            for number in range(DEATHS):
                org_code = f"{way[0]}{count:02d}{each.number:03d}{number:03d}A"
                told = await nodes.ask(org_code=org_code, seconds=each.plan.seconds, seed=each.seed * 100 + number)
                decided = dict(await on.leader.ask(take=True))
                _add(samples, told, decided.get(org_code), each.plan.seconds)
            return {**samples, "busy": busy_percent(busy, machine_ms())}

    return Variant(name=name, about=about, run=run)


def _add(samples: dict[str, list[float]], told: Any, decided: float | None, seconds: float) -> None:
    """One death. A node that never refused counts as one that would have at the end."""
    end = told["died"] + seconds
    opened: Sequence[float] = [end if moment is None else moment for moment in told["opened"]]
    first = min(opened)
    samples["refused"].append((first - told["died"]) * 1000)
    samples["spread"].append((max(opened) - first) * 1000)
    samples["share"].append(100 * sum(moment <= first + TOGETHER for moment in opened) / len(opened))
    samples["wasted"].append(float(len(told["met"])))
    if decided is not None:
        samples["applied"] += [(moment - decided) * 1000 for moment in opened]


_SWITCH, _APPLY = "How a fleet switches", "From the decision to every node"
_MEAN, _P50, _P99 = Statistic.MEAN, Statistic.P50, Statistic.P99
_BUSY = Column("machine busy", "busy", _MEAN, "%")

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="deciding",
    title="Deciding: a provider dies, and a fleet stops calling it",
    about=(
        f"A fleet makes {RATE:g} calls a second, a seeded Poisson process, at a provider that answers in {CALL_SECONDS * 1000:g} ms. Its "
        f"nodes make 1, 1/2, 1/3 ... of the calls, as fleets are never even. After {HEALTHY:g} s the provider dies, for everybody. Both "
        f"ways open a circuit by {IN_A_ROW} failures in a row: **ours** by those that two nodes tell the coordinator, **pybreaker** by "
        "those of each node, its storage in memory.",
        "The coordinator is a process of its own that leads by lease, with Valkey's stream, store and channel between it and the nodes. "
        "The nodes of a fleet share a process, and so a core; each has connections, reports and an ear of its own.",
        "**First refusal** counts from the death, **spread** from the first node's refusal to the last one's; a node that never refuses "
        f"counts with the end of the round. **Share** of the nodes that refuse {TOGETHER * 1000:g} ms after the first. **Wasted**: calls "
        "that met the dead provider.",
    ),
    stage=stage,
    variants=tuple(
        variant
        for count in FLEETS
        for variant in (
            _variant("ours", _ours(count), "guard, reports, coordinator, mirrors.", count),
            _variant("pybreaker", _theirs(count), "pybreaker as its documentation says.", count),
        )
    ),
    tables=(
        Table(
            title=_SWITCH,
            columns=(
                Column("first refusal", "refused", _P50),
                Column("spread p50", "spread", _P50),
                Column("spread p99", "spread", _P99),
                Column("share", "share", _MEAN, "%"),
                Column("wasted", "wasted", _MEAN, "calls"),
                _BUSY,
            ),
        ),
        Table(
            title=_APPLY,
            columns=(
                Column("p50", "applied", _P50),
                Column("p99", "applied", _P99),
                Column("nodes x deaths", "applied", Statistic.COUNT, ""),
            ),
            variants=tuple(_ours(count) for count in FLEETS),
        ),
    ),
    plan=Plan(rounds=3, seconds=2.0, warm_up=0.0, rate=RATE),
    quick=Plan(rounds=1, seconds=0.5, warm_up=0.0, rate=RATE),
    aims=tuple(Aim(variant=_ours(count), table=_APPLY, column="p99", most=100.0) for count in FLEETS)
    + tuple(Aim(variant=_ours(count), table=_SWITCH, column="share", least=100.0) for count in FLEETS),
)
