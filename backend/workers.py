"""The worker process: which jobs it has, what they need, and what runs beside them.

In: settings and a queue's name. Out: `run_worker`, which ends on SIGTERM or SIGINT. Part of the composition root (`services.py`):
everything is built by keyword and connects on first use.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from secrets import randbelow
from typing import Any

from arq.worker import Function, func

from backend.batch.commands import SCHEDULED_SEND
from backend.batch.gentle import Gentle
from backend.batch.refreshing import ScheduledRefreshing
from backend.batch.sender import Sleep, Tools
from backend.batch.sending import MOST_RUNS, Sending, longest_run
from backend.batch.terms import Terms
from backend.batches import batch_terms
from backend.clock import SystemClock
from backend.coordinator.node import CallingNode, calling_node
from backend.exposing import serving_metrics
from backend.jobs.attempts import OnPoisoned
from backend.jobs.holding import Holding
from backend.jobs.measuring import timed
from backend.jobs.queue import JSON, QueueName
from backend.jobs.valkey import connect
from backend.jobs.worker import Bounds, LeasedWorker
from backend.links.refreshing import Refreshing
from backend.links.rereading import Rereading
from backend.links.unlinking import Unlinking
from backend.logs import configure_logs
from backend.metrics import Metric, Sample, Samples
from backend.providers.calls import Scope
from backend.providers.circuits import CircuitState
from backend.providers.clients import ProviderClients, http_clients
from backend.providers.holding import HolderGuard
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.providers.mirror import Mirrors
from backend.realtime.channels import dialer
from backend.registration.collecting import Collecting, Deadlines
from backend.registration.consenting import Consenting
from backend.registration.flights import SingleFlight
from backend.registration.jobs import COLLECT, REFRESH, REVOKE, SIGN
from backend.registration.linking import Linking
from backend.registration.probes import Probes
from backend.registration.signing import Patience, Signing
from backend.registration.sweeping import OutboxSweep
from backend.services import (
    Foundation,
    alongside,
    circuit_options,
    found,
    need,
    on_signals,
    people_of,
    reach_of,
    sweeping,
    vault_of,
)
from backend.settings import Settings
from backend.webhooks.keeping import MOST_WEBHOOKS, Keeping
from backend.webhooks.posting import Poster
from backend.webhooks.sending import AT_ONCE, Sender


@dataclass(frozen=True, kw_only=True)
class Hands:
    """The jobs of a worker by function name; arq gives each its context first."""

    signing: Signing
    collecting: Collecting
    refreshing: Refreshing
    unlinking: Unlinking
    linking: Linking
    rereading: Rereading

    async def sign(self, _ctx: dict[Any, Any], *, user_id: str, registration_id: str, run: int, request_id: str) -> None:
        await self.signing.sign(user_id, registration_id, run, request_id=request_id)

    async def collect(self, _ctx: dict[Any, Any], *, user_id: str, registration_id: str, org_code: str, run: int, **_: str) -> None:
        await self.collecting.collect(user_id, registration_id, org_code, run)

    async def refresh(self, _ctx: dict[Any, Any], *, user_id: str, refresh_id: str, org_code: str, **_: str) -> None:
        await self.refreshing.refresh(user_id, refresh_id, org_code)

    async def revoke(self, _ctx: dict[Any, Any], *, user_id: str, org_code: str) -> None:
        await self.unlinking.revoke(user_id, org_code)

    def functions(self, measured: Callable[[Any, str], Any]) -> list[Function]:
        """As arq takes them; `measured` wraps each, with its name."""
        deeds: dict[str, Any] = {SIGN: self.sign, COLLECT: self.collect, REFRESH: self.refresh, REVOKE: self.revoke}
        return [func(measured(deed, name), name=name) for name, deed in deeds.items()]

    async def on_poisoned(self, function: str, kwargs: dict[str, JSON]) -> None:
        """A job that failed three times by our own fault: what it worked on is ended, so that nobody waits for it."""
        user_id = str(kwargs["user_id"])
        if function == REFRESH:
            await self.refreshing.give_up(user_id, str(kwargs["refresh_id"]), str(kwargs["org_code"]))
        if function not in {COLLECT, SIGN}:  # a revocation is asked for again by its sweep
            return
        registration_id, run = str(kwargs["registration_id"]), int(str(kwargs["run"]))
        if function == COLLECT:
            await self.collecting.give_up(user_id, registration_id, str(kwargs["org_code"]), run)
        elif function == SIGN:
            await self.signing.give_up(user_id, registration_id, run)


@dataclass(frozen=True, kw_only=True)
class BatchHands:
    """What a worker of the batch queue does. It reads no link for a person who waits."""

    sending: Sending

    async def scheduled_send(self, _ctx: dict[Any, Any], *, org_code: str, minute: str) -> None:
        await self.sending.send(org_code, datetime.fromisoformat(minute))

    def functions(self, measured: Callable[[Any, str], Any], terms: Terms) -> list[Function]:
        """As arq takes them."""
        return [func(measured(self.scheduled_send, SCHEDULED_SEND), name=SCHEDULED_SEND, timeout=longest_run(terms), max_tries=MOST_RUNS)]

    async def on_poisoned(self, _function: str, kwargs: dict[str, JSON]) -> None:
        """A command on which our own code failed again and again: its links stay due."""
        await self.sending.give_up(str(kwargs["org_code"]), datetime.fromisoformat(str(kwargs["minute"])))


async def run_worker(settings: Settings, queue: str, listener: socket.socket | None = None) -> None:
    """A worker of `queue` (`interactive` or `batch`), until SIGTERM or SIGINT; then it drains.

    `listener`: an open listening socket for its metrics; None: they are shown nowhere.
    """
    configure_logs(settings, process=f"worker-{queue}")
    name = QueueName(queue)
    foundation, gentle = found(settings, SystemClock()), Gentle()
    holding = Holding(foundation.clock)
    try:
        async with (
            calling_node(
                foundation.directory,
                settings,
                circuit_options(settings),
                foundation.clock,
                valkey=foundation.valkey,
                dial=dialer(foundation.valkey),
                metrics=foundation.metrics,
                beside=gentle if name is QueueName.BATCH else None,
            ) as node,
            http_clients(foundation.directory, settings, foundation.clock, guard=HolderGuard(node.guard, holding)) as clients,
        ):
            hands = hands_of(foundation, clients)
            batch = None if name is QueueName.INTERACTIVE else _batch_hands(foundation, hands, node, gentle)
            worker = _worker(foundation, hands, holding) if batch is None else _batch_worker(foundation, batch, holding)
            foundation.watched("worker")
            foundation.metrics.watch(partial(_running, worker, name))
            if batch is not None:
                foundation.metrics.watch(batch.sending.tally.measured)
            await foundation.warm()
            probes = Probes(institutions=clients, database=foundation.database, collecting=hands.collecting)
            async with (
                node.running(probes),
                _sending(foundation) as sender,
                sweeping([OutboxSweep(relay=foundation.relay), sender], foundation),
                serving_metrics(foundation.metrics, listener),
            ):
                await worker.run()
                if batch is not None:
                    await batch.sending.close()
    finally:
        await foundation.close()


def _worker(foundation: Foundation, hands: Hands, holding: Holding) -> LeasedWorker:
    settings, queue = foundation.settings, QueueName.INTERACTIVE
    measured = partial(timed, queue=queue, metrics=foundation.metrics, clock=foundation.clock)
    worker = LeasedWorker(
        hands.functions(measured),
        queue=queue,
        redis=lambda: connect(need(settings, "valkey_url"), timeout=settings.valkey_timeout, pool=settings.valkey_pool),
        clock=foundation.clock,
        bounds=Bounds(
            lease=settings.job_lease,
            max_jobs=settings.interactive_jobs,
            job_timeout=settings.provider_deadline * 2,
            drain=settings.drain_seconds,
        ),
        holding=holding,
        on_poisoned=_counted(foundation, queue, hands.on_poisoned),
    )
    on_signals(worker.stop)
    return worker


def _batch_hands(foundation: Foundation, hands: Hands, node: CallingNode, gentle: Gentle) -> BatchHands:
    gate, terms = partial(_is_closed, node.circuits.mirrors), batch_terms(foundation.settings)
    return BatchHands(sending=sending_of(foundation, hands, terms=terms, gate=gate, gentle=gentle))


def _batch_worker(foundation: Foundation, batch: BatchHands, holding: Holding) -> LeasedWorker:
    """One that gives way: people who wait have the CPU first."""
    settings, queue = foundation.settings, QueueName.BATCH
    os.nice(settings.batch_niceness)
    measured = partial(timed, queue=queue, metrics=foundation.metrics, clock=foundation.clock)
    worker = LeasedWorker(
        batch.functions(measured, batch_terms(settings)),
        queue=queue,
        redis=lambda: connect(need(settings, "valkey_url"), timeout=settings.valkey_timeout, pool=settings.valkey_pool),
        clock=foundation.clock,
        bounds=Bounds(lease=settings.batch_lease, max_jobs=settings.batch_jobs, drain=settings.drain_seconds),
        holding=holding,
        on_poisoned=_counted(foundation, queue, batch.on_poisoned),
    )

    def stop() -> None:
        worker.stop()
        batch.sending.stop()

    on_signals(stop)
    return worker


def sending_of(
    foundation: Foundation, hands: Hands, *, terms: Terms, gate: Callable[[str], bool], gentle: Gentle, sleep: Sleep = asyncio.sleep
) -> Sending:
    """What carries commands out. `gate(org_code)`: whether all calls may pass; `sleep`: how it waits."""
    refreshing = ScheduledRefreshing(
        database=foundation.database,
        relay=foundation.relay,
        linking=hands.linking,
        rereading=hands.rereading,
        clock=foundation.clock,
        terms=terms,
    )
    tools = Tools(
        database=foundation.database,
        refreshing=refreshing,
        gate=gate,
        gentle=gentle,
        terms=terms,
        most=foundation.settings.batch_in_flight,
        clock=foundation.clock,
        sleep=sleep,
    )
    return Sending(tools, foundation.directory)


def _is_closed(mirrors: Mirrors, org_code: str) -> bool:
    """Not while its calls grow back to what they were, either: those are people's."""
    mirror = mirrors.of(org_code, Scope.READ)
    return mirror.standing is CircuitState.CLOSED and mirror.settled


def _counted(foundation: Foundation, queue: QueueName, on_poisoned: OnPoisoned) -> OnPoisoned:
    async def counted(function: str, kwargs: dict[str, JSON]) -> None:
        foundation.metrics.count(Metric.JOBS_GIVEN_UP, queue, function)
        await on_poisoned(function, kwargs)

    return counted


def _running(worker: LeasedWorker, queue: QueueName) -> Samples:
    yield Sample(Metric.JOBS_RUNNING, (queue,), len(worker.tasks))
    yield Sample(Metric.JOBS_AT_ONCE, (queue,), worker.max_jobs)


@asynccontextmanager
async def _sending(foundation: Foundation) -> AsyncIterator[Sender]:
    """Delivers to webhooks while the block runs; its sweep must run, too."""
    settings, clock, database = foundation.settings, foundation.clock, foundation.database
    post = Poster(reach=reach_of(settings), deadline=settings.webhook_deadline, connections=MOST_WEBHOOKS * AT_ONCE)
    sender = Sender(
        keeping=Keeping(database=database, vault=vault_of(settings, clock), clock=clock),
        database=database,
        post=post,
        clock=clock,
        deadline=settings.webhook_deadline,
        published=foundation.published,
    )
    try:
        async with alongside(sender.run()):
            yield sender
    finally:
        await post.aclose()


def hands_of(foundation: Foundation, clients: ProviderClients) -> Hands:
    """The jobs of a worker, with what they need."""
    settings, clock, database, handling = foundation.settings, foundation.clock, foundation.database, foundation.handling
    vault = vault_of(settings, clock)
    people = people_of(settings, vault)
    consenting = Consenting(
        vault=vault, directory=foundation.directory, operator=settings.operator_org_code, serials=Serials(randbelow(SERIAL_SPAN))
    )
    signing = Signing(
        database=database,
        handling=handling,
        people=people,
        consenting=consenting,
        queue=foundation.queue,
        ca=clients.ca,
        clock=clock,
        patience=Patience(ttl=timedelta(seconds=settings.signature_ttl), poll=timedelta(milliseconds=settings.ca_poll_ms)),
    )
    linking = Linking(database=database, vault=vault, people=people, consenting=consenting, clock=clock)
    flights = SingleFlight(redis=foundation.valkey, lease=settings.job_lease)
    asset_secret = need(settings, "asset_id_secret").encode()
    unlinking = Unlinking(database=database, relay=foundation.relay, vault=vault, flights=flights, clients=clients, clock=clock)
    collecting = Collecting(
        database=database,
        handling=handling,
        linking=linking,
        flights=flights,
        clients=clients,
        directory=foundation.directory,
        clock=clock,
        deadlines=Deadlines(provider=settings.provider_deadline, defer=timedelta(seconds=settings.defer_seconds)),
        asset_secret=asset_secret,
        lost=unlinking.lost,
    )
    rereading = Rereading(linking=linking, flights=flights, unlinking=unlinking, clients=clients, clock=clock, asset_secret=asset_secret)
    refreshing = Refreshing(
        database=database,
        relay=foundation.relay,
        rereading=rereading,
        directory=foundation.directory,
        clock=clock,
        deadline=settings.provider_deadline,
        defer=timedelta(seconds=settings.defer_seconds),
    )
    return Hands(signing=signing, collecting=collecting, refreshing=refreshing, unlinking=unlinking, linking=linking, rereading=rereading)
