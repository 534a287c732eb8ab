"""The coordinator process: what the one that leads does for the whole fleet.

In: settings. Out: `run_coordinator`, which ends on SIGTERM or SIGINT. Part of the composition root (`services.py`): everything is built by
keyword and connects on first use. Any number may run; those that do not lead wait for the lease.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from backend.batches import batch_figures, lead_batch
from backend.clock import SystemClock
from backend.coordinator.breakers import circuits
from backend.coordinator.chronicle import Chronicle, Chronicled
from backend.coordinator.deciding import Deciding
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.leader import Leader
from backend.coordinator.modes import Modes
from backend.coordinator.store import DecisionStore, ValkeyStore
from backend.coordinator.stream import OLDEST, ValkeyStream
from backend.coordinator.telling import StatusSweep
from backend.coordinator.timing import ByFleetClock, FleetClock, TimedStore
from backend.exposing import serving_metrics
from backend.jobs.measuring import CountedSweep
from backend.jobs.sweeper import Sweep, Sweeper
from backend.links.forgetting import ErasureSweep
from backend.links.refreshing import OpenRefreshSweep
from backend.links.unlinking import NoticeSweep, RevocationSweep
from backend.logs import configure_logs
from backend.providers.circuits import Circuit
from backend.realtime.feed import OPERATORS
from backend.registration.sweeping import IdempotencySweep, OpenWorkSweep, OutboxSweep
from backend.reporters import Reporters, operators_poster, reporters
from backend.reporting.recording import Recording
from backend.reporting.rolling import ConsentDays
from backend.services import Foundation, circuit_options, found, on_signals, reach_of
from backend.settings import Settings
from backend.storage import traffic
from backend.storage.pruning import Pruning
from backend.watching import shown_as_leader, watch_deliveries, watch_fleet
from backend.webhooks.sending import DeliverySweep

LEADER_LEASE = 5.0  # seconds
ROLLED_EVERY = 10.0  # seconds between two looks whether a day of consents is to be added up
ROLLED_WITHIN = 2 * 3600.0  # seconds for all days that were missed


async def run_coordinator(settings: Settings, listener: socket.socket | None = None) -> None:
    """One of any number of coordinators, until SIGTERM or SIGINT.

    `listener`: an open listening socket for its metrics; None: they are shown nowhere.
    """
    configure_logs(settings, process="coordinator")
    foundation = found(settings, SystemClock())
    lead = _Lead(foundation)
    leader = Leader(redis=foundation.valkey, clock=foundation.clock, lease=LEADER_LEASE)
    leading = asyncio.create_task(leader.run(lead.duties))
    on_signals(leading.cancel)
    try:
        with suppress(asyncio.CancelledError):  # the signal's; a fault of ours ends the process with a word
            async with serving_metrics(foundation.metrics, listener, foundation.clock):
                await leading
    finally:
        await lead.close()
        await foundation.close()


class _Lead:
    """What is done while this process leads."""

    def __init__(self, foundation: Foundation) -> None:
        settings, valkey, directory = foundation.settings, foundation.valkey, foundation.directory
        self._foundation = foundation
        self._fleets = FleetClock(foundation.clock)
        self._store = ValkeyStore(valkey)
        self._told = _reporters(foundation, self._store)
        self._sweeps = _sweeps(foundation, self._store, self._told, self._fleets)
        foundation.watched("coordinator")
        watch_fleet(foundation.metrics, valkey=valkey, relay=foundation.relay, directory=directory, clock=foundation.clock)
        messages = self._told.messenger.oldest
        watch_deliveries(foundation.metrics, database=foundation.database, messages=messages, clock=foundation.clock)
        figures = batch_figures(settings, database=foundation.database, directory=directory, clock=self._fleets)
        foundation.metrics.watch_slow(figures)

    async def duties(self, token: int) -> None:
        """Everything, until it is cancelled. `token`: of the lease; what is decided under an older one is refused."""
        foundation, metrics = self._foundation, self._foundation.metrics
        timed = TimedStore(self._store, self._fleets)
        chronicle = Chronicle(database=foundation.database, relay=foundation.relay, store=timed, feed=OPERATORS)
        deciding = _deciding(foundation, Chronicled(timed, chronicle))
        counted = [CountedSweep(sweep, metrics) for sweep in (*self._sweeps, chronicle)]
        async with shown_as_leader(metrics), asyncio.TaskGroup() as group:
            group.create_task(Sweeper(counted, foundation.settings.sweep_seconds, clock=foundation.clock).run())
            group.create_task(deciding.reign(token))
            group.create_task(self._record())
            group.create_task(self._told.messenger.run())
            group.create_task(self._batch())
            group.create_task(self._roll())

    async def close(self) -> None:
        await self._told.close()

    async def _record(self) -> None:
        await self._fleets.known.wait()  # which days are too old is not for one machine to say
        stream, database = ValkeyStream(self._foundation.valkey), self._foundation.database
        await Recording(stream=stream, database=database, clock=self._fleets, oldest=OLDEST).run()

    async def _roll(self) -> None:
        """Beside everything else: a day may take its time."""
        days = CountedSweep(ByFleetClock(ConsentDays(database=self._foundation.database), self._fleets), self._foundation.metrics)
        await Sweeper([days], ROLLED_EVERY, clock=self._fleets, deadline=ROLLED_WITHIN).run()

    async def _batch(self) -> None:
        await self._fleets.known.wait()
        await lead_batch(
            self._foundation.settings,
            database=self._foundation.database,
            queue=self._foundation.queue,
            directory=self._foundation.directory,
            standings=self._store.standings,
            alerts=self._told.alerts,
            clock=self._fleets,
        )


def _reporters(foundation: Foundation, store: ValkeyStore) -> Reporters:
    return reporters(
        foundation.settings,
        database=foundation.database,
        valkey=foundation.valkey,
        directory=foundation.directory,
        clock=foundation.clock,
        poster=operators_poster(reach_of(foundation.settings), foundation.metrics),
        standings=store.standings,
        figures=ValkeyFigures(foundation.valkey).read,
    )


def _sweeps(foundation: Foundation, store: ValkeyStore, told: Reporters, fleets: FleetClock) -> list[Sweep]:
    database, queue, relay = foundation.database, foundation.queue, foundation.relay
    return [
        told.noted(OpenWorkSweep(database=database, queue=queue)),
        told.noted(OpenRefreshSweep(database=database, queue=queue)),
        *told.watches,
        *(ByFleetClock(sweep, fleets) for sweep in told.morning),
        ErasureSweep(database=database, erase_feed=foundation.feed.erase),
        RevocationSweep(database=database, queue=queue),
        NoticeSweep(database=database, relay=relay),
        OutboxSweep(relay=relay),
        IdempotencySweep(database=database),
        DeliverySweep(database=database),
        ByFleetClock(Pruning("traffic", traffic.forget_old, database=database), fleets),
        StatusSweep(database=database, relay=relay, standings=store, directory=foundation.directory, clock=foundation.clock),
    ]


def _deciding(foundation: Foundation, store: DecisionStore) -> Deciding:
    def circuits_of(org_code: str) -> list[Circuit]:
        return [circuit for circuit, _ in circuits(foundation.directory()) if circuit.org_code == org_code]

    return Deciding(
        store=store,
        stream=ValkeyStream(foundation.valkey),
        modes=Modes(database=foundation.database, clock=foundation.clock),
        figures=ValkeyFigures(foundation.valkey),
        circuits_of=circuits_of,
        options=circuit_options(foundation.settings),
        clock=foundation.clock,
    )
