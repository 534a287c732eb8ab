"""The API: what lies behind its routes. Part of the composition root (`services.py`).

In: settings. Out: an `Api` for `app.py`. Everything is built by keyword and connects on first use.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import httpx

from backend.afterwards import Afterwards
from backend.batch.endpoints import BatchEndpoints
from backend.batches import batch_endpoints
from backend.clock import Clock, SystemClock
from backend.coordinator.endpoints import BreakerEndpoints
from backend.coordinator.figures import ValkeyFigures
from backend.coordinator.following import Following
from backend.coordinator.modes import Modes
from backend.coordinator.node import following
from backend.coordinator.store import ValkeyStore
from backend.coordinator.stream import ValkeyStream
from backend.coordinator.timing import FleetClock
from backend.exposing import AllProcesses
from backend.identity import TokenVerifier
from backend.links.forgetting import Forgetting
from backend.links.refreshes import Refreshes
from backend.links.unlinking import Links
from backend.metrics import Metric, Sample, Samples
from backend.providers.calling.counting import circuits_of
from backend.providers.calling.mirror import Mirrors
from backend.providers.clients import traffic_secret
from backend.providers.traffic import user_key
from backend.rate_limit import RateLimit
from backend.realtime.channels import dialer
from backend.realtime.hub import Hub
from backend.registration.accepting import Accepting
from backend.registration.people import People
from backend.reporters import report_endpoints
from backend.reporting.endpoints import ReportEndpoints
from backend.services import Foundation, circuit_options, found, need, people_of, reach_of, vault_of
from backend.settings import Settings
from backend.storage.vault import Vault
from backend.webhooks.endpoints import WebhookEndpoints
from backend.webhooks.keeping import Keeping


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
    vault, fleets = vault_of(settings, foundation.clock), FleetClock(foundation.clock)
    database, directory = foundation.database, foundation.directory
    afterwards = Afterwards(queue=foundation.queue, relay=foundation.relay)
    verifier = _verifier(foundation)
    mirrors = Mirrors(foundation.clock)
    hub = Hub(feed=foundation.feed, dial=dialer(foundation.valkey), sockets_per_user=settings.sockets_per_user)
    return Api(
        foundation=foundation,
        verifier=verifier,
        accepting=_accepting(foundation, people_of(settings, vault), hub, afterwards),
        refreshes=Refreshes(database=database, directory=directory, position=hub.position, afterwards=afterwards, clock=foundation.clock),
        links=Links(database=database, handling=foundation.handling, directory=directory, afterwards=afterwards, clock=foundation.clock),
        forgetting=_forgetting(foundation, afterwards, fleets),
        afterwards=afterwards,
        hub=hub,
        webhooks=_webhooks(foundation, verifier, vault),
        breakers=_breakers(foundation, verifier),
        batch=batch_endpoints(settings, verifier=verifier, database=database, directory=directory, clock=fleets),
        reports=report_endpoints(settings, verifier=verifier, database=database, directory=directory, clock=fleets),
        mirrors=mirrors,
        following=_following(foundation, mirrors, fleets),
        all_processes=AllProcesses(
            folder=settings.data, own=foundation.metrics, client=httpx.AsyncClient(trust_env=False), clock=foundation.clock
        ),
    ).watched()


def _verifier(foundation: Foundation) -> TokenVerifier:
    """Who calls, and how often they may."""
    settings, per_minute = foundation.settings, foundation.settings.rate_limit_per_minute
    return TokenVerifier(
        secret=settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
        jwks_url=settings.jwks_url,
        clock=foundation.clock,
        budget=RateLimit(redis=foundation.valkey, per_minute=per_minute) if per_minute else None,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
    )


def _accepting(foundation: Foundation, people: People, hub: Hub, afterwards: Afterwards) -> Accepting:
    return Accepting(
        database=foundation.database,
        handling=foundation.handling,
        people=people,
        directory=foundation.directory,
        position=hub.position,
        afterwards=afterwards,
        clock=foundation.clock,
        signature_ttl=timedelta(seconds=foundation.settings.signature_ttl),
    )


def _forgetting(foundation: Foundation, afterwards: Afterwards, clock: Clock) -> Forgetting:
    """Not without the secret by which traffic names a user: nobody would be found who is to be forgotten."""
    need(foundation.settings, "asset_id_secret")
    return Forgetting(
        database=foundation.database,
        erase_feed=foundation.feed.erase,
        traffic_key=partial(user_key, traffic_secret(foundation.settings)),
        afterwards=afterwards,
        clock=clock,
    )


def _webhooks(foundation: Foundation, verifier: TokenVerifier, vault: Vault) -> WebhookEndpoints:
    settings = foundation.settings
    keeping = Keeping(database=foundation.database, vault=vault, clock=foundation.clock)
    return WebhookEndpoints(verifier=verifier, keeping=keeping, reach=reach_of(settings), max_body=settings.max_body_bytes)


def _following(foundation: Foundation, mirrors: Mirrors, clock: FleetClock) -> Following:
    return following(
        valkey=foundation.valkey,
        dial=dialer(foundation.valkey),
        mirrors=mirrors,
        options=circuit_options(foundation.settings),
        clock=clock,
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
