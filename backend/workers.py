"""The worker process: whose jobs it runs (`hands.py`), and what runs beside them.

In: settings and a queue's name. Out: `run_worker`, which ends on SIGTERM or SIGINT. Part of the composition root (`services.py`):
everything is built by keyword and connects on first use.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from backend.batch.gentle import Gentle
from backend.batches import batch_terms
from backend.clock import SystemClock
from backend.coordinator.node import CallingNode, calling_node
from backend.exposing import serving_metrics
from backend.hands import BatchHands, Hands, hands_of, sending_of
from backend.jobs.attempts import OnPoisoned
from backend.jobs.holding import Holding
from backend.jobs.measuring import timed
from backend.jobs.queue import JSON, QueueName
from backend.jobs.worker import Bounds, LeasedWorker
from backend.logs import configure_logs
from backend.metrics import Metric, Sample, Samples
from backend.providers.calling.holding import HolderGuard
from backend.providers.calling.mirror import Mirrors
from backend.providers.calls import Scope
from backend.providers.circuits import CircuitState
from backend.providers.clients import ProviderClients, http_clients
from backend.realtime.channels import dialer
from backend.registration.probes import Probes
from backend.registration.sweeping import OutboxSweep
from backend.services import (
    Foundation,
    alongside,
    circuit_options,
    found,
    on_signals,
    reach_of,
    sweeping,
    valkey_of,
    vault_of,
)
from backend.settings import Settings
from backend.webhooks.keeping import MOST_WEBHOOKS, Keeping
from backend.webhooks.posting import Poster
from backend.webhooks.sending import AT_ONCE, Sender


async def run_worker(settings: Settings, queue: str, listener: socket.socket | None = None) -> None:
    """A worker of `queue` (`interactive` or `batch`), until SIGTERM or SIGINT; then it drains.

    `listener`: an open listening socket for its metrics; None: they are shown nowhere.
    """
    configure_logs(settings, process=f"worker-{queue}")
    name = QueueName(queue)
    foundation, gentle = found(settings, SystemClock()), Gentle()
    holding = Holding(foundation.clock)
    try:
        async with _calling(foundation, holding, gentle if name is QueueName.BATCH else None) as (node, clients):
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
                serving_metrics(foundation.metrics, listener, foundation.clock),
            ):
                await worker.run()
                if batch is not None:
                    await batch.sending.close()
    finally:
        await foundation.close()


@asynccontextmanager
async def _calling(foundation: Foundation, holding: Holding, beside: Gentle | None) -> AsyncIterator[tuple[CallingNode, ProviderClients]]:
    """Ways to call institutions: each call is its circuit's to admit, and none is made for a job that is another worker's by now."""
    settings, clock, valkey = foundation.settings, foundation.clock, foundation.valkey
    node = calling_node(
        foundation.directory,
        settings,
        circuit_options(settings),
        clock,
        valkey=valkey,
        dial=dialer(valkey),
        metrics=foundation.metrics,
        beside=beside,
    )
    async with node as ours, http_clients(foundation.directory, settings, clock, guard=HolderGuard(ours.guard, holding)) as clients:
        yield ours, clients


def _worker(foundation: Foundation, hands: Hands, holding: Holding) -> LeasedWorker:
    settings, queue = foundation.settings, QueueName.INTERACTIVE
    measured = partial(timed, queue=queue, metrics=foundation.metrics, clock=foundation.clock)
    worker = LeasedWorker(
        hands.functions(measured),
        queue=queue,
        redis=partial(valkey_of, settings),
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
        redis=partial(valkey_of, settings),
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
    count = partial(foundation.metrics.count, Metric.WEBHOOK_ATTEMPTS, "app")
    post = Poster(reach=reach_of(settings), deadline=settings.webhook_deadline, connections=MOST_WEBHOOKS * AT_ONCE, count=count)
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
