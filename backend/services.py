"""The composition root: the only constructor of pools and clients, and the only place that knows how the rooms fit together.

In: settings. Out: an `Api` for `app.py`, and the two processes without a port, `run_worker` and `run_coordinator`, which end on SIGTERM or
SIGINT. Everything is built by keyword and connects on first use; nothing connects at import.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from secrets import randbelow
from typing import Any

import structlog
from arq.worker import Function, func
from redis.asyncio import Redis

from backend import failpoints
from backend.clock import Clock, SystemClock
from backend.coordinator.endpoints import BreakerEndpoints
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.leader import Leader
from backend.coordinator.modes import Modes
from backend.coordinator.store import ValkeyStore
from backend.coordinator.stream import ValkeyStream
from backend.errors import EngineUnavailable
from backend.identity import TokenVerifier
from backend.jobs.queue import JSON, QueueName, ValkeyQueue
from backend.jobs.sweeper import Sweep, Sweeper
from backend.jobs.valkey import connect
from backend.jobs.worker import LeasedWorker
from backend.logs import configure_logs
from backend.providers.clients import http_clients, traffic_secret
from backend.providers.directory import Directory
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.providers.mirror import Mirrors
from backend.providers.reloading import CurrentDirectory
from backend.providers.traffic import user_key
from backend.rate_limit import RateLimit
from backend.realtime.channels import dialer
from backend.realtime.feed import Feed
from backend.realtime.hub import Hub
from backend.registration.accepting import Accepting, After
from backend.registration.collecting import Collecting, Deadlines
from backend.registration.consenting import Consenting
from backend.registration.flights import SingleFlight
from backend.registration.forgetting import ErasureSweep, Forgetting
from backend.registration.handling import Handling
from backend.registration.jobs import COLLECT, REFRESH, REVOKE, SIGN
from backend.registration.linking import Linking
from backend.registration.people import People
from backend.registration.refreshes import Refreshes
from backend.registration.refreshing import OpenRefreshSweep, Refreshing
from backend.registration.signing import Patience, Signing
from backend.registration.sweeping import IdempotencySweep, OpenWorkSweep, OutboxSweep
from backend.registration.unlinking import Links, NoticeSweep, RevocationSweep, Unlinking
from backend.settings import Settings, VaultKeys
from backend.storage.database import Database
from backend.storage.outbox import Relay, relayed
from backend.storage.vault import Vault
from backend.webhooks.addresses import Reach
from backend.webhooks.endpoints import WebhookEndpoints
from backend.webhooks.keeping import MOST_WEBHOOKS, Keeping
from backend.webhooks.posting import Poster
from backend.webhooks.sending import AT_ONCE, DeliverySweep, Sender

MOST_AFTERWARDS = 1000  # answers whose hand-over is under way; what is beyond is left to the sweeper
LEADER_LEASE = 5.0  # seconds

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


async def _ping(valkey: Redis) -> None:
    await valkey.ping()


def found(settings: Settings, clock: Clock) -> Foundation:
    """Builds the foundation. Raises `DirectoryFault` or `ValueError` for settings that cannot work."""
    failpoints.arm(settings.failpoints)
    database = Database(need(settings, "database_url"), pool=settings.database_pool)
    valkey = connect(need(settings, "valkey_url"), timeout=settings.valkey_timeout, pool=settings.valkey_pool)
    feed = Feed(redis=valkey, relayed=partial(relayed, database))
    published = asyncio.Event()
    relay = Relay(database=database, feed=feed, published=published)
    return Foundation(
        settings=settings,
        clock=clock,
        database=database,
        valkey=valkey,
        feed=feed,
        relay=relay,
        published=published,
        queue=ValkeyQueue(redis=valkey, clock=clock),
        handling=Handling(database=database, relay=relay, clock=clock),
        directory=CurrentDirectory(settings, clock),
    )


def need(settings: Settings, name: str) -> str:
    """The value of a secret setting that must be there. Raises `ValueError`, naming it."""
    secret = getattr(settings, name)
    if secret is None:
        raise ValueError(f"MOA_{name.upper()} is not set; `moa up` sets it by itself, other commands take it from its data folder")
    return str(secret.get_secret_value())


def _vault(settings: Settings, clock: Clock) -> Vault:
    need(settings, "vault_keys")
    return Vault(VaultKeys(settings, clock))


def _reach(settings: Settings) -> Reach:
    if settings.webhook_addresses != "auto":
        return Reach(settings.webhook_addresses)
    return Reach.PUBLIC if settings.environment == "production" else Reach.LOOPBACK


def _people(settings: Settings, vault: Vault) -> People:
    return People(vault=vault, derive=settings.user_ci == "derived" and settings.environment == "development")


def _traffic_key(settings: Settings) -> Callable[[str], str]:
    """How traffic names a user. Not without the secret: nobody would be found who is to be forgotten."""
    need(settings, "asset_id_secret")
    return partial(user_key, traffic_secret(settings))


# --- the API ---------------------------------------------------------------------------------------------------------


class Afterwards:
    """What may happen after an answer: facts go to the feed, jobs to the queue. Bounded; the sweeper finds whatever is dropped."""

    def __init__(self, foundation: Foundation) -> None:
        self._foundation = foundation
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, after: After) -> None:
        if len(self._tasks) >= MOST_AFTERWARDS:
            log.warning("afterwards.left_to_the_sweeper")
            return
        task = asyncio.create_task(self._hand_over(after))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, after: After) -> None:
        await asyncio.gather(self._enqueue(after), self._foundation.relay.push(after.user_id, after.entries))

    async def _enqueue(self, after: After) -> None:
        try:
            if after.jobs:
                await self._foundation.queue.enqueue(after.jobs)
        except EngineUnavailable as exc:
            log.info("enqueue.left_to_the_sweeper", engine=exc.engine)

    async def finish(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


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
    mirrors: Mirrors  # what this process was told of circuits
    draining: bool = False  # whether this process is going away

    async def drain(self) -> None:
        """Says goodbye to every socket, spread out, while requests that were begun are answered."""
        self.draining = True
        await self.hub.drain(self.foundation.settings.drain_seconds / 2)

    async def close(self) -> None:
        await self.afterwards.finish()
        await self.foundation.close()


def build_api(settings: Settings, clock: Clock | None = None) -> Api:
    """Builds everything that the API needs."""
    foundation = found(settings, clock or SystemClock())
    afterwards = Afterwards(foundation)
    secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
    per_minute = settings.rate_limit_per_minute
    vault = _vault(settings, foundation.clock)
    budget = RateLimit(redis=foundation.valkey, per_minute=per_minute) if per_minute else None
    verifier = TokenVerifier(secret=secret, jwks_url=settings.jwks_url, clock=foundation.clock, budget=budget)
    keeping = Keeping(database=foundation.database, vault=vault, clock=foundation.clock)
    hub = Hub(feed=foundation.feed, dial=dialer(foundation.valkey), sockets_per_user=settings.sockets_per_user)
    return Api(
        foundation=foundation,
        verifier=verifier,
        accepting=Accepting(
            database=foundation.database,
            handling=foundation.handling,
            people=_people(settings, vault),
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
            clock=foundation.clock,
        ),
        afterwards=afterwards,
        hub=hub,
        webhooks=WebhookEndpoints(verifier=verifier, keeping=keeping, reach=_reach(settings), max_body=settings.max_body_bytes),
        breakers=_breakers(foundation, verifier),
        mirrors=Mirrors(foundation.clock),
    )


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


# --- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Hands:
    """The jobs of a worker by function name; arq gives each its context first."""

    signing: Signing
    collecting: Collecting
    refreshing: Refreshing
    unlinking: Unlinking

    async def sign(self, _ctx: dict[Any, Any], *, user_id: str, registration_id: str, run: int, request_id: str) -> None:
        await self.signing.sign(user_id, registration_id, run, request_id=request_id)

    async def collect(self, _ctx: dict[Any, Any], *, user_id: str, registration_id: str, org_code: str, run: int, **_: str) -> None:
        await self.collecting.collect(user_id, registration_id, org_code, run)

    async def refresh(self, _ctx: dict[Any, Any], *, user_id: str, refresh_id: str, org_code: str, **_: str) -> None:
        await self.refreshing.refresh(user_id, refresh_id, org_code)

    async def revoke(self, _ctx: dict[Any, Any], *, user_id: str, org_code: str) -> None:
        await self.unlinking.revoke(user_id, org_code)

    def functions(self) -> list[Function]:
        """As arq takes them."""
        deeds: dict[str, Any] = {SIGN: self.sign, COLLECT: self.collect, REFRESH: self.refresh, REVOKE: self.revoke}
        return [func(deed, name=name) for name, deed in deeds.items()]

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


async def run_worker(settings: Settings, queue: str) -> None:
    """A worker of `queue` (`interactive` or `batch`), until SIGTERM or SIGINT; then it drains."""
    configure_logs(settings, process=f"worker-{queue}")
    name = QueueName(queue)
    foundation = found(settings, SystemClock())
    async with http_clients(foundation.directory, settings, foundation.clock) as clients:
        hands = _hands(foundation, clients)
        worker = LeasedWorker(
            hands.functions(),
            queue=name,
            redis=lambda: connect(need(settings, "valkey_url"), timeout=settings.valkey_timeout, pool=settings.valkey_pool),
            clock=foundation.clock,
            lease=settings.job_lease,
            max_jobs=settings.interactive_jobs if name is QueueName.INTERACTIVE else settings.batch_jobs,
            job_timeout=settings.provider_deadline * 2,
            drain=settings.drain_seconds,
            on_poisoned=hands.on_poisoned,
        )
        _on_signals(worker.stop)
        await foundation.warm()
        try:
            async with _sending(foundation) as sender, _sweeping([OutboxSweep(relay=foundation.relay), sender], foundation):
                await worker.run()
        finally:
            await foundation.close()


@asynccontextmanager
async def _sending(foundation: Foundation) -> AsyncIterator[Sender]:
    """Delivers to webhooks while the block runs; its sweep must run, too."""
    settings, clock, database = foundation.settings, foundation.clock, foundation.database
    post = Poster(reach=_reach(settings), deadline=settings.webhook_deadline, connections=MOST_WEBHOOKS * AT_ONCE)
    sender = Sender(
        keeping=Keeping(database=database, vault=_vault(settings, clock), clock=clock),
        database=database,
        post=post,
        clock=clock,
        deadline=settings.webhook_deadline,
        published=foundation.published,
    )
    try:
        async with _alongside(sender.run()):
            yield sender
    finally:
        await post.aclose()


def _sweeping(sweeps: Sequence[Sweep], foundation: Foundation) -> AbstractAsyncContextManager[None]:
    return _alongside(Sweeper(sweeps, foundation.settings.sweep_seconds, clock=foundation.clock).run())


@asynccontextmanager
async def _alongside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs `work` while the block runs; then it is cancelled and waited for."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _hands(foundation: Foundation, clients: Any) -> Hands:
    settings, clock, database, handling = foundation.settings, foundation.clock, foundation.database, foundation.handling
    vault = _vault(settings, clock)
    people = _people(settings, vault)
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
    refreshing = Refreshing(
        database=database,
        relay=foundation.relay,
        linking=linking,
        flights=flights,
        unlinking=unlinking,
        clients=clients,
        directory=foundation.directory,
        clock=clock,
        deadline=settings.provider_deadline,
        defer=timedelta(seconds=settings.defer_seconds),
        asset_secret=asset_secret,
    )
    return Hands(signing=signing, collecting=collecting, refreshing=refreshing, unlinking=unlinking)


# --- the coordinator -------------------------------------------------------------------------------------------------


async def run_coordinator(settings: Settings) -> None:
    """One of any number of coordinators, until SIGTERM or SIGINT. The one that leads sweeps for the whole fleet."""
    configure_logs(settings, process="coordinator")
    foundation = found(settings, SystemClock())
    sweeps: list[Sweep] = [
        OpenWorkSweep(database=foundation.database, queue=foundation.queue),
        OpenRefreshSweep(database=foundation.database, queue=foundation.queue),
        ErasureSweep(database=foundation.database, erase_feed=foundation.feed.erase),
        RevocationSweep(database=foundation.database, queue=foundation.queue),
        NoticeSweep(database=foundation.database, relay=foundation.relay),
        OutboxSweep(relay=foundation.relay),
        IdempotencySweep(database=foundation.database),
        DeliverySweep(database=foundation.database),
    ]

    async def duties(_token: int) -> None:
        await Sweeper(sweeps, settings.sweep_seconds, clock=foundation.clock).run()

    leader = Leader(redis=foundation.valkey, clock=foundation.clock, lease=LEADER_LEASE)
    leading = asyncio.create_task(leader.run(duties))
    _on_signals(leading.cancel)
    try:
        with suppress(asyncio.CancelledError):  # the signal's; a fault of ours ends the process with a word
            await leading
    finally:
        await foundation.close()


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
