"""The page `sending`: what a due link costs the batch, beside the bare client that makes the same calls and stores nothing.

In: rounds. Out: links a CPU second of the worker, and what the engines take beside it. The worker is a fresh process in each round.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx

from backend.engines import erase_postgres, start_postgres, start_valkey
from backend.storage.migrations import migrate
from benchmarks.calling import Stage
from benchmarks.companions import companion
from benchmarks.costs import busy_percent, cpu_ms, machine_ms
from benchmarks.model import Aim, Benchmark, Column, Plan, Round, Samples, Statistic, Table, Variant
from benchmarks.senders import AT_ONCE, IN_A_CHUNK, ORG_CODE

A_SECOND = 150  # links that are made ready for a second of the plan
NONE = {"p50": 0, "p99": 0}  # ms: what is measured is whoever asks


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """The sandbox as a process, PostgreSQL with our tables, Valkey; in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="moa-benchmark-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(erase_postgres, folder)
        engines = []
        for start in (start_postgres, start_valkey):
            engines.append(await asyncio.to_thread(start, folder))
            stack.push_async_callback(asyncio.to_thread, engines[-1].stop)
        database_url, valkey_url = (engine.url for engine in engines)
        await migrate(database_url)
        yield Stage(url=await stack.enter_async_context(_sandbox(folder)), folder=folder, database_url=database_url, valkey_url=valkey_url)


@asynccontextmanager
async def _sandbox(folder: Path) -> AsyncIterator[str]:
    """Its URL. It answers at once."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOA_")}
    command = (sys.executable, "-m", "backend.cli", "sandbox", "--port", str(port), "--data", str(folder))
    with (folder / "sandbox.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=clean)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
            while True:
                with suppress(httpx.TransportError):
                    (await http.put(f"{url}/sandbox/providers/{ORG_CODE}", json={"latency_ms": NONE})).raise_for_status()
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


def _variant(name: str, about: str, way: str, *, known: bool) -> Variant[Stage]:
    async def run(on: Stage, each: Round) -> Samples:
        plan = each.plan
        place = ("--url", on.url, "--database", on.database_url, "--valkey", on.valkey_url, "--folder", str(on.folder))
        async with companion("benchmarks.senders", *place) as worker:
            await worker.ask(ready=max(round(plan.warm_up * A_SECOND), AT_ONCE), known=known)
            await worker.ask(way=way)
            await worker.ask(ready=round(plan.seconds * A_SECOND), known=known)
            busy, engines = machine_ms(), cpu_ms(on.marks)
            told = await worker.ask(way=way)
            used = cpu_ms(on.marks)
        return {
            "by cpu second": [told["links"] / told["cpu"]],
            "by second": [told["links"] / told["seconds"]],
            "cpu": [told["cpu"] / told["links"] * 1e3],
            **{f"cpu {engine}": [(used[engine] - engines[engine]) / told["links"]] for engine in on.marks},
            "busy": busy_percent(busy, machine_ms()),
        }

    return Variant(name=name, about=about, run=run)


_OLD, _NEW = "batch, nothing new", "batch, everything new"
_OLD_CALLS, _NEW_CALLS = "the same two calls", "the same eight calls"
_TABLE_OLD, _TABLE_NEW = "Links with nothing new", "Links that were never read"
_COLUMNS = (
    Column("links a CPU second", "by cpu second", Statistic.MEAN, ""),
    Column("CPU of a link", "cpu", Statistic.MEAN, "ms"),
    Column("PostgreSQL's CPU of a link", "cpu PostgreSQL", Statistic.MEAN, "ms"),
    Column("Valkey's CPU of a link", "cpu Valkey", Statistic.MEAN, "ms"),
    Column("links a second", "by second", Statistic.MEAN, ""),
    Column("machine busy", "busy", Statistic.MEAN, "%"),
)

BENCHMARK: Benchmark[Stage] = Benchmark(
    name="sending",
    title="Due links: what the batch adds to the calls themselves",
    about=(
        "What does it cost to read a linked bank again, and how much of that is not the calls? The bank is the sandbox's, as a process "
        f"without latency. {AT_ONCE} links are being read at once; their intents are committed {IN_A_CHUNK} at a time, as a sender does in "
        "a tenth of a second. The ideal is the same client making the same calls for the same links, of which nothing is stored.",
        "**Links a CPU second** is what one core of a worker carries, whoever else was on the machine; the engines' part stands beside.",
    ),
    stage=stage,
    variants=(
        _variant(_OLD, "both lists say that nothing is new: intent, two calls, record.", "batch", known=True),
        _variant(_OLD_CALLS, "the calls alone.", "bare", known=True),
        _variant(_NEW, "about eight calls, nine assets that are stored and told.", "batch", known=False),
        _variant(_NEW_CALLS, "the calls alone.", "bare", known=False),
    ),
    tables=(
        Table(title=_TABLE_OLD, variants=(_OLD, _OLD_CALLS), columns=_COLUMNS, about=("An ordinary week.",)),
        Table(title=_TABLE_NEW, variants=(_NEW, _NEW_CALLS), columns=_COLUMNS, about=("What a first reading brings is a registration's.",)),
    ),
    aims=(Aim(variant=_OLD, table=_TABLE_OLD, column="links a CPU second", least=0.75, over=_OLD_CALLS),),
    plan=Plan(rounds=3, seconds=6, warm_up=1, rate=0),
    quick=Plan(rounds=1, seconds=1, warm_up=0.2, rate=0),
)
