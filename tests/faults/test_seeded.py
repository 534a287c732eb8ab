"""Random faults by a seed, one after the other and at once, on a fleet with a proxy on every edge.

In: `MOA_FAULT_SEED`, or a seed that is drawn and printed; `MOA_FAULT_ROUNDS`. Out: the same plan for the same seed, as far as the machine's
timing lets it be the same. Not here: bits that are changed on the way, which no checksum of ours could tell from what was sent (in
production TLS does that).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import redis

from tests.faults.chaos import Blackhole, Fault, HalfClose, Latency, Reset, Stall, Truncate
from tests.faults.checkers import SICK_WAY
from tests.faults.conftest import LEASE, SEED
from tests.faults.stage import BANK, CARD, EFIN, Stage, a_stage
from tests.faults.supervisor import Edge, Fleet, Topology, a_fleet

pytestmark = [pytest.mark.system, pytest.mark.long]

ROUNDS = int(os.environ.get("MOA_FAULT_ROUNDS") or 4)
FAULTS = 6  # per round
ARRIVALS = 40

CLIENTS_FAULTS: tuple[Fault, ...] = (Reset(), Latency(0.05, 0.1), Truncate(700))  # what hangs here is no fault of the server's
ENGINES_FAULTS: tuple[Fault, ...] = (Reset(), Stall(), Blackhole(), HalfClose(), Latency(0.02, 0.05), Truncate(2000))
SANDBOX_FAULTS: tuple[Fault, ...] = (Reset(), Stall(), Blackhole(), HalfClose(), Latency(0.1, 0.2), Truncate(300))


@dataclass(frozen=True)
class Planned:
    """One thing that is done, and how long it lasts. Seconds."""

    name: str
    do: Callable[[Stage, float], Awaitable[None]]
    lasts: float
    then: float  # until the next one begins; shorter than `lasts`: they overlap


@pytest.fixture(scope="module")
async def proxied() -> AsyncIterator[Fleet]:
    async with a_fleet(Topology(apis=2, workers=2, coordinators=2, settings=LEASE, edges=frozenset(Edge))) as running:
        yield running


async def killed(stage: Stage, kind: str, number: int, seconds: float) -> None:
    member = {"worker": stage.fleet.workers, "api": stage.fleet.apis, "coordinator": stage.fleet.coordinators}[kind][number]
    async with member.hands:
        with stage.history.disturbing(f"{kind} killed"):
            await member.kill()
            await asyncio.sleep(seconds)
            await member.start()


async def frozen(stage: Stage, number: int, seconds: float) -> None:
    """A zombie: it wakes up and goes on with what others have done meanwhile."""
    worker = stage.fleet.workers[number]
    async with worker.hands:
        with stage.history.disturbing("worker frozen"):
            worker.freeze()
            await asyncio.sleep(seconds)
            worker.thaw()


async def wiped(stage: Stage, _seconds: float) -> None:
    async with stage.fleet.valkey.hands:
        with stage.history.disturbing("valkey wiped"), redis.Redis.from_url(stage.fleet.valkey.engine.url) as client:
            client.flushall()


async def valkey_frozen(stage: Stage, seconds: float) -> None:
    async with stage.fleet.valkey.hands:
        with stage.history.disturbing("valkey frozen"):
            stage.fleet.valkey.freeze()
            await asyncio.sleep(seconds)
            stage.fleet.valkey.thaw()


async def postgres_restarted(stage: Stage, _seconds: float) -> None:
    async with stage.fleet.postgres.hands:
        with stage.history.disturbing("postgres restarted"):
            await stage.fleet.postgres.restart()


async def sick(stage: Stage, edge: Edge, fault: Fault, seconds: float) -> None:
    with stage.history.disturbing(SICK_WAY if edge is Edge.WORKER_SANDBOX else "edge sick"):
        stage.fleet.proxies[edge].set(fault)
        await asyncio.sleep(seconds)
        stage.fleet.proxies[edge].heal()


def planned(dice: random.Random) -> list[Planned]:
    """What is done in one round."""
    return [_drawn(dice) for _ in range(FAULTS)]


def _drawn(dice: random.Random) -> Planned:
    lasts, then, number = dice.uniform(0.3, 4), dice.uniform(0.5, 4), dice.randrange(2)
    edge = dice.choice(list(Edge))
    fault = dice.choice({Edge.CLIENT_API: CLIENTS_FAULTS, Edge.WORKER_SANDBOX: SANDBOX_FAULTS}.get(edge, ENGINES_FAULTS))
    deeds: list[tuple[str, Callable[[Stage, float], Awaitable[None]]]] = [
        (f"worker {number} killed", lambda stage, seconds: killed(stage, "worker", number, seconds)),
        (f"api {number} killed", lambda stage, seconds: killed(stage, "api", number, seconds)),
        (f"coordinator {number} killed", lambda stage, seconds: killed(stage, "coordinator", number, seconds)),
        (f"worker {number} frozen", lambda stage, seconds: frozen(stage, number, seconds)),
        ("valkey frozen", valkey_frozen),
        ("valkey wiped", wiped),
        ("postgres restarted", postgres_restarted),
        *[(f"{edge} {fault}", lambda stage, seconds: sick(stage, edge, fault, seconds))] * 5,
    ]
    name, do = dice.choice(deeds)
    return Planned(name, do, lasts, then)


def test_the_same_seed_makes_the_same_plan() -> None:
    one, other = ([(step.name, step.lasts, step.then) for step in planned(random.Random(SEED))] for _ in range(2))
    assert one == other


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_random_faults_break_no_promise(proxied: Fleet, number: int) -> None:
    print(f"MOA_FAULT_SEED={SEED}, round {number}")
    plan = planned(random.Random(f"{SEED}-{number}"))
    async with a_stage(proxied) as stage:
        stage.arrive(ARRIVALS, every=0.4, org_codes=(BANK, CARD, EFIN))
        await stage.until_accepted(2)
        async with asyncio.TaskGroup() as group:
            for step in plan:
                print(f"  {step.name} for {step.lasts:.1f} s, the next after {step.then:.1f} s")
                group.create_task(step.do(stage, step.lasts))
                await asyncio.sleep(step.then)
        stage.ill = any(step.name.startswith(Edge.WORKER_SANDBOX) for step in plan)
        await stage.is_well()
