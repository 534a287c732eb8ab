"""The composition root: the only constructor of pools and clients, and the only place that knows how the rooms fit together.

In: settings. Out: what every process stands on; the API, workers and coordinators are built beside this, in `apis.py`, `workers.py` and
`coordinators.py`. Everything is built by keyword and connects on first use; nothing connects at import.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.asyncio import Redis

from backend import failpoints
from backend.clock import Clock
from backend.coordinator.options import Options, WindowKind
from backend.errors import EngineUnavailable
from backend.jobs.queue import ValkeyQueue
from backend.jobs.sweeper import Sweep, Sweeper
from backend.jobs.valkey import connect
from backend.metrics import Metrics
from backend.providers.directory import Directory
from backend.providers.reloading import CurrentDirectory
from backend.realtime.feed import Feed
from backend.registration.handling import Handling
from backend.registration.people import People
from backend.settings import Settings, VaultKeys
from backend.storage.database import Database
from backend.storage.outbox import Relay, relayed
from backend.storage.vault import Vault
from backend.watching import watch_process
from backend.webhooks.addresses import Reach


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


def circuit_options(settings: Settings) -> Options:
    """How circuits are judged. Raises `ValueError`, which names the setting, for values that contradict each other."""
    said = {name: getattr(settings, f"circuit_{name}") for name in Options.__struct_fields__}
    try:
        return Options(**said | {"window": WindowKind(settings.circuit_window)})
    except ValueError as exc:
        name, _, why = str(exc).partition(" ")
        raise ValueError(f"MOA_CIRCUIT_{name.upper()} {why}") from exc


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
