"""The composition root: the only constructor of pools and clients, and the only place that knows how the rooms fit together.

In: settings. Out: what every process stands on, and an `Api` for `app.py`; workers and coordinators are built beside this, in `workers.py`
and `coordinators.py`. Everything is built by keyword and connects on first use; nothing connects at import.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import structlog
from redis.asyncio import Redis

from backend import failpoints
from backend.afterwards import Afterwards
from backend.batch.endpoints import BatchEndpoints
from backend.batches import batch_endpoints
from backend.clock import Clock, SystemClock
from backend.coordinator.endpoints import BreakerEndpoints
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.following import Following
from backend.coordinator.modes import Modes
from backend.coordinator.node import following
from backend.coordinator.options import Options, WindowKind
from backend.coordinator.store import ValkeyStore
from backend.coordinator.stream import ValkeyStream
from backend.coordinator.timing import FleetClock
from backend.errors import EngineUnavailable
from backend.exposing import AllProcesses
from backend.identity import TokenVerifier
from backend.jobs.queue import ValkeyQueue
from backend.jobs.sweeper import Sweep, Sweeper
from backend.jobs.valkey import connect
from backend.links.forgetting import Forgetting
from backend.links.refreshes import Refreshes
from backend.links.unlinking import Links
from backend.metrics import Metric, Metrics, Sample, Samples
from backend.providers.clients import traffic_secret
from backend.providers.counting import circuits_of
from backend.providers.directory import Directory
from backend.providers.mirror import Mirrors
from backend.providers.reloading import CurrentDirectory
from backend.providers.traffic import user_key
from backend.rate_limit import RateLimit
from backend.realtime.channels import dialer
from backend.realtime.feed import Feed
from backend.realtime.hub import Hub
from backend.registration.accepting import Accepting
from backend.registration.handling import Handling
from backend.registration.people import People
from backend.reporters import report_endpoints
from backend.reporting.endpoints import ReportEndpoints
from backend.settings import Settings, VaultKeys
from backend.storage.database import Database
from backend.storage.outbox import Relay, relayed
from backend.storage.vault import Vault
from backend.watching import watch_process
from backend.webhooks.addresses import Reach
from backend.webhooks.endpoints import WebhookEndpoints
from backend.webhooks.keeping import Keeping

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Foundation:
    """What every process stands on."""

    settings: Settings
    clock: Clock
    database: Database
    valkey: Redis
    feed: Feed
    relay: Relay
    published: asyncio.Event  # set after each commit of facts in this process
    queue: ValkeyQueue
    handling: Handling
    directory: Callable[[], Directory]
    metrics: Metrics

    async def warm(self) -> None:
        """Connects before the first request does. An engine that is away is no reason not to start."""
        with suppress(EngineUnavailable):
            await self.database.warm()

    async def close(self) -> None:
        """Lets go of everything, once what is under way has ended."""
        await self.handling.finish()
        await self.relay.close()
        await self.valkey.aclose()
        await self.database.close()

    async def away(self) -> dict[str, str]:
        """Engines that do not answer within two seconds, with what to look at. Empty: all is well."""
        checks = {"PostgreSQL": self.database.ping(), "Valkey": _ping(self.valkey)}
        answers = await asyncio.gather(*(asyncio.wait_for(check, 2) for check in checks.values()), return_exceptions=True)
        return {engine: "does not answer" for engine, answer in zip(checks, answers, strict=True) if isinstance(answer, BaseException)}

    def watched(self, role: str) -> None:
        """Shows its figures from now on, as those of such a process."""
        watch_process(self.metrics, role, database=self.database, valkey=self.valkey, relay=self.relay, away=self.away)


async def _ping(valkey: Redis) -> None:
    await valkey.ping()


def found(settings: Settings, clock: Clock) -> Foundation:
    """Builds the foundation. Raises `DirectoryFault` or `ValueError` for settings that cannot work."""
    failpoints.arm(settings.failpoints)
    database = Database(need(settings, "database_url"), pool=settings.database_pool)
    valkey = valkey_of(settings)
    feed = Feed(redis=valkey, relayed=partial(relayed, database))
    published = asyncio.Event()
    relay = Relay(database=database, feed=feed, published=published)
    metrics = Metrics()
    return Foundation(
        settings=settings,
        clock=clock,
        database=database,
        valkey=valkey,
        feed=feed,
        relay=relay,
        published=published,
        queue=ValkeyQueue(redis=valkey, clock=clock),
        handling=Handling(database=database, relay=relay, clock=clock, metrics=metrics),
        directory=CurrentDirectory(settings, clock),
        metrics=metrics,
    )


def need(settings: Settings, name: str) -> str:
    """The value of a secret setting that must be there. Raises `ValueError`, naming it."""
    secret = getattr(settings, name)
    if secret is None:
        raise ValueError(f"MOA_{name.upper()} is not set; `moa up` sets it by itself, other commands take it from its data folder")
    return str(secret.get_secret_value())


def valkey_of(settings: Settings) -> Redis:
    """A client with connections of its own."""
    return connect(need(settings, "valkey_url"), timeout=settings.valkey_timeout, pool=settings.valkey_pool)


def vault_of(settings: Settings, clock: Clock) -> Vault:
    """Raises `ValueError` if there are no keys."""
    need(settings, "vault_keys")
    return Vault(VaultKeys(settings, clock))


def reach_of(settings: Settings) -> Reach:
    """Where webhooks may lie."""
    if settings.webhook_addresses != "auto":
        return Reach(settings.webhook_addresses)
    return Reach.PUBLIC if settings.environment == "production" else Reach.LOOPBACK


def people_of(settings: Settings, vault: Vault) -> People:
    """Who persons are to institutions."""
    return People(vault=vault, derive=settings.user_ci == "derived" and settings.environment == "development")


def _traffic_key(settings: Settings) -> Callable[[str], str]:
    """How traffic names a user. Not without the secret: nobody would be found who is to be forgotten."""
    need(settings, "asset_id_secret")
    return partial(user_key, traffic_secret(settings))


# --- the API ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Api:
    """What `app.py` puts behind its routes."""

    foundation: Foundation
    verifier: TokenVerifier
    accepting: Accepting
    refreshes: Refreshes
    links: Links
    forgetting: Forgetting
    afterwards: Afterwards
    hub: Hub
    webhooks: WebhookEndpoints
    breakers: BreakerEndpoints
    batch: BatchEndpoints
    reports: ReportEndpoints
    mirrors: Mirrors  # what this process was told of circuits
    following: Following  # keeps them so, while it runs
    all_processes: AllProcesses
    draining: bool = False  # whether this process is going away

    async def drain(self) -> None:
        """Says goodbye to every socket, spread out, while requests that were begun are answered."""
        self.draining = True
        await self.hub.drain(self.foundation.settings.drain_seconds / 2)

    async def close(self) -> None:
        await self.afterwards.finish()
        await self.all_processes.close()
        await self.foundation.close()

    def watched(self) -> Api:
        """Shows its figures from now on."""

        def accepted() -> Samples:
            yield Sample(Metric.REGISTRATIONS_ACCEPTED, (), self.accepting.accepted)

        self.foundation.watched("api")
        for source in (self.hub.measured, self.afterwards.measured, accepted, partial(circuits_of, self.mirrors)):
            self.foundation.metrics.watch(source)
        return self


def build_api(settings: Settings, clock: Clock | None = None) -> Api:
    """Builds everything that the API needs."""
    foundation = found(settings, clock or SystemClock())
    afterwards = Afterwards(queue=foundation.queue, relay=foundation.relay)
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
    per_minute = settings.rate_limit_per_minute
    vault = vault_of(settings, foundation.clock)
    budget = RateLimit(redis=foundation.valkey, per_minute=per_minute) if per_minute else None
    verifier = TokenVerifier(secret=secret, jwks_url=settings.jwks_url, clock=foundation.clock, budget=budget)
    keeping = Keeping(database=foundation.database, vault=vault, clock=foundation.clock)
    mirrors, fleets = Mirrors(foundation.clock), FleetClock(foundation.clock)
    hub = Hub(feed=foundation.feed, dial=dialer(foundation.valkey), sockets_per_user=settings.sockets_per_user)
    return Api(
        foundation=foundation,
        verifier=verifier,
        accepting=Accepting(
            database=foundation.database,
            handling=foundation.handling,
            people=people_of(settings, vault),
            directory=foundation.directory,
            position=hub.position,
            afterwards=afterwards,
            clock=foundation.clock,
            signature_ttl=timedelta(seconds=settings.signature_ttl),
        ),
        refreshes=Refreshes(
            database=foundation.database,
            directory=foundation.directory,
            position=hub.position,
            afterwards=afterwards,
            clock=foundation.clock,
        ),
        links=Links(
            database=foundation.database,
            handling=foundation.handling,
            directory=foundation.directory,
            afterwards=afterwards,
            clock=foundation.clock,
        ),
        forgetting=Forgetting(
            database=foundation.database,
            erase_feed=foundation.feed.erase,
            traffic_key=_traffic_key(settings),
            afterwards=afterwards,
            clock=fleets,
        ),
        afterwards=afterwards,
        hub=hub,
        webhooks=WebhookEndpoints(verifier=verifier, keeping=keeping, reach=reach_of(settings), max_body=settings.max_body_bytes),
        breakers=_breakers(foundation, verifier),
        batch=batch_endpoints(settings, verifier=verifier, database=foundation.database, directory=foundation.directory, clock=fleets),
        reports=report_endpoints(settings, verifier=verifier, database=foundation.database, directory=foundation.directory, clock=fleets),
        mirrors=mirrors,
        following=following(
            valkey=foundation.valkey,
            dial=dialer(foundation.valkey),
            mirrors=mirrors,
            options=circuit_options(settings),
            clock=fleets,
        ),
        all_processes=AllProcesses(
            folder=settings.data, own=foundation.metrics, client=httpx.AsyncClient(trust_env=False), clock=foundation.clock
        ),
    ).watched()


def _breakers(foundation: Foundation, verifier: TokenVerifier) -> BreakerEndpoints:
    return BreakerEndpoints(
        verifier=verifier,
        modes=Modes(database=foundation.database, clock=foundation.clock),
        standings=ValkeyStore(foundation.valkey),
        figures=ValkeyFigures(foundation.valkey).read,
        stream=ValkeyStream(foundation.valkey),
        directory=foundation.directory,
        began=foundation.clock.now(),
        max_body=foundation.settings.max_body_bytes,
    )


# --- for each of them ------------------------------------------------------------------------------------------------


def circuit_options(settings: Settings) -> Options:
    """How circuits are judged. Raises `ValueError` for values that contradict each other."""
    said = {name: getattr(settings, f"circuit_{name}") for name in Options.__struct_fields__}
    return Options(**said | {"window": WindowKind(settings.circuit_window)})


def on_signals(stop: Callable[[], object]) -> None:
    """Calls `stop` when this process is asked to end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def sweeping(sweeps: Sequence[Sweep], foundation: Foundation) -> AbstractAsyncContextManager[None]:
    """Sweeps while the block runs."""
    return alongside(Sweeper(sweeps, foundation.settings.sweep_seconds, clock=foundation.clock).run())


@asynccontextmanager
async def alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` while the block runs; then it is cancelled and waited for."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
