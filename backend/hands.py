"""What workers do: the jobs of each queue, with what they need. Part of the composition root (`services.py`).

In: what a process stands on, and ways to call institutions. Out: functions as arq takes them, and what happens to a job that failed again
and again by our own fault. Which process runs them is `workers.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import randbelow
from typing import Any

from arq.worker import Function, func

from backend.batch.commands import SCHEDULED_SEND
from backend.batch.gentle import Gentle
from backend.batch.refreshing import ScheduledRefreshing
from backend.batch.sender import Sleep, Tools
from backend.batch.sending import MOST_RUNS, Sending, longest_run
from backend.batch.terms import Terms
from backend.jobs.queue import JSON
from backend.links.refreshing import Refreshing
from backend.links.rereading import Rereading
from backend.links.unlinking import Unlinking
from backend.providers.clients import ProviderClients
from backend.providers.ids import SERIAL_SPAN, Serials
from backend.registration.collecting import Collecting, Deadlines
from backend.registration.consenting import Consenting
from backend.registration.flights import SingleFlight
from backend.registration.jobs import COLLECT, REFRESH, REVOKE, SIGN
from backend.registration.linking import Linking
from backend.registration.people import People
from backend.registration.signing import Patience, Signing
from backend.services import (
    Foundation,
    need,
    people_of,
    vault_of,
)
from backend.settings import Settings


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


def hands_of(foundation: Foundation, clients: ProviderClients) -> Hands:
    """The jobs of a worker, with what they need."""
    settings, clock, database = foundation.settings, foundation.clock, foundation.database
    vault = vault_of(settings, clock)
    people = people_of(settings, vault)
    consenting = Consenting(
        vault=vault, directory=foundation.directory, operator=settings.operator_org_code, serials=Serials(randbelow(SERIAL_SPAN))
    )
    linking = Linking(database=database, vault=vault, people=people, consenting=consenting, clock=clock)
    flights = SingleFlight(redis=foundation.valkey, lease=settings.job_lease)
    unlinking = Unlinking(database=database, relay=foundation.relay, vault=vault, flights=flights, clients=clients, clock=clock)
    rereading = Rereading(
        linking=linking, flights=flights, unlinking=unlinking, clients=clients, clock=clock, asset_secret=_asset_secret(settings)
    )
    return Hands(
        signing=_signing(foundation, people, consenting, clients),
        collecting=_collecting(foundation, linking, flights, unlinking, clients),
        refreshing=_refreshing(foundation, rereading),
        unlinking=unlinking,
        linking=linking,
        rereading=rereading,
    )


def _signing(foundation: Foundation, people: People, consenting: Consenting, clients: ProviderClients) -> Signing:
    settings = foundation.settings
    return Signing(
        database=foundation.database,
        handling=foundation.handling,
        people=people,
        consenting=consenting,
        queue=foundation.queue,
        ca=clients.ca,
        clock=foundation.clock,
        patience=Patience(ttl=timedelta(seconds=settings.signature_ttl), poll=timedelta(milliseconds=settings.ca_poll_ms)),
    )


def _collecting(
    foundation: Foundation, linking: Linking, flights: SingleFlight, unlinking: Unlinking, clients: ProviderClients
) -> Collecting:
    settings = foundation.settings
    return Collecting(
        database=foundation.database,
        handling=foundation.handling,
        linking=linking,
        flights=flights,
        clients=clients,
        directory=foundation.directory,
        clock=foundation.clock,
        deadlines=Deadlines(provider=settings.provider_deadline, defer=timedelta(seconds=settings.defer_seconds)),
        asset_secret=_asset_secret(settings),
        lost=unlinking.lost,
    )


def _refreshing(foundation: Foundation, rereading: Rereading) -> Refreshing:
    settings = foundation.settings
    return Refreshing(
        database=foundation.database,
        relay=foundation.relay,
        rereading=rereading,
        directory=foundation.directory,
        clock=foundation.clock,
        deadline=settings.provider_deadline,
        defer=timedelta(seconds=settings.defer_seconds),
    )


def _asset_secret(settings: Settings) -> bytes:
    return need(settings, "asset_id_secret").encode()


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
