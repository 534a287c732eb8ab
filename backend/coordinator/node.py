"""A process's whole side of the fleet's circuits, put together: guard and reports, ears and mirrors, a judgement of its own, and probing.

In: a client of Valkey, and what a probe calls. Out: a guard for every client of institutions. Built by `apis.py` and `workers.py`;
nothing connects before `running`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import random

import structlog
from redis.asyncio import Redis

from backend.clock import Clock
from backend.coordinator.alone import Alone
from backend.coordinator.asking import Asking
from backend.coordinator.following import Following, Line
from backend.coordinator.options import Options
from backend.coordinator.probing import Probed, Probing
from backend.coordinator.store import ValkeyStore
from backend.coordinator.stream import StreamedReports, ValkeyStream
from backend.coordinator.timing import FleetClock, TimedStore
from backend.metrics import Metric, Metrics, Sample, Samples
from backend.providers.calling.counting import CountedReports, circuits_of
from backend.providers.calling.guard import CircuitGuard, NodeCircuits, Notices, heard_by, node_circuits
from backend.providers.calling.mirror import Mirrors
from backend.providers.directory import Directory
from backend.settings import Settings

INFORMED_WITHIN = 2.0  # seconds that a process waits for the state of the circuits before it begins

log = structlog.get_logger()

Dial = Callable[[], Awaitable[Line]]


def following(
    *, valkey: Redis, dial: Dial, mirrors: Mirrors, options: Options, clock: FleetClock, understudy: Alone | None = None
) -> Following:
    """Keeps `mirrors` as the fleet decided, and `clock` in time; all that a process needs that makes no calls."""
    store = TimedStore(ValkeyStore(valkey), clock)
    return Following(store=store, dial=dial, mirrors=mirrors, options=options, clock=clock, understudy=understudy)


@dataclass(frozen=True, kw_only=True)
class CallingNode:
    """One that makes calls."""

    circuits: NodeCircuits
    following: Following
    alone: Alone
    asking: Asking
    options: Options
    clock: Clock

    @property
    def guard(self) -> CircuitGuard:
        """For every client of institutions."""
        return self.circuits.guard

    @asynccontextmanager
    async def running(self, probed: Probed) -> AsyncIterator[None]:
        """Hears, judges and probes while the block runs, which begins once the state of the circuits is known, if Valkey answers."""
        probing = Probing(
            asking=self.asking,
            probed=probed,
            guards=self.guard,
            state_of=self.circuits.mirrors.state_of,
            clock=self.clock,
            options=self.options,
            draw=random,
        )
        self.following.on_change(probing.hear)
        self.alone.on_change(probing.hear)
        log.info("node.started", node=self.circuits.noticing.node)  # as operators read it where its calls fail and others' do not
        tasks = [asyncio.create_task(self.following.run()), asyncio.create_task(self.alone.run())]
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(INFORMED_WITHIN):
                    await self.following.informed.wait()
            yield
        finally:
            await probing.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def calling_node(
    directory: Callable[[], Directory],
    settings: Settings,
    options: Options,
    clock: Clock,
    *,
    valkey: Redis,
    dial: Dial,
    metrics: Metrics | None = None,
    beside: Notices | None = None,
) -> AsyncIterator[CallingNode]:
    """Reports while the block runs. Give its guard to the clients, then let it be `running`. `metrics` None: nobody looks.

    `beside`: who else hears how calls end; None: nobody.
    """
    stream, mirrors, fleets = ValkeyStream(valkey), Mirrors(clock), FleetClock(clock)
    reports = CountedReports(StreamedReports(stream))
    alone = Alone(mirrors=mirrors, options=options, clock=clock)
    async with node_circuits(directory, settings, fleets, reports=reports, mirrors=mirrors, beside=heard_by(alone, beside)) as circuits:
        _show(metrics or Metrics(), reports, circuits)
        heard = following(valkey=valkey, dial=dial, mirrors=mirrors, options=options, clock=fleets, understudy=alone)
        asking = Asking(stream=stream, name=circuits.noticing.node, alone=alone)
        heard.on_admitted(asking.answered)
        yield CallingNode(circuits=circuits, following=heard, alone=alone, asking=asking, options=options, clock=clock)


def _show(metrics: Metrics, reports: CountedReports, circuits: NodeCircuits) -> None:
    def waiting() -> Samples:
        yield Sample(Metric.OUTCOMES_WAITING, (), circuits.noticing.waiting)

    metrics.watch(reports.measured)
    metrics.watch(waiting)
    metrics.watch(partial(circuits_of, circuits.mirrors))
