"""Tells users that a provider which they are linked to rests, is in maintenance, or is there again.

In: how circuits stand, look by look. Out: `provider.status` in the feeds of the users concerned, once per change that lasted until it was
seen and until the one before was told to all; in slices, of which each is a short transaction. The leading coordinator runs it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from backend.clock import Clock
from backend.coordinator.availability import availability
from backend.coordinator.standing import Standing
from backend.events import Availability, ProviderStatusChanged
from backend.providers.circuits import CircuitState
from backend.providers.directory import Directory
from backend.storage import provider_statuses
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay
from backend.storage.statements import Connection, Row

SLICE = 100  # users whose rows are locked at once
AT_ONCE = 20  # appends to feeds
BUDGET = 2.0  # seconds of telling between two looks
LOST_AFTER = 60.0  # seconds without any standing of a provider that was ill, after which it counts as well: the store was lost


class Standings(Protocol):
    """Where the leading coordinator keeps how circuits stand."""

    async def standings(self) -> Sequence[Standing]:
        """All that are stored. Raises `EngineUnavailable`."""
        ...


class StatusSweep:
    """Looks for changes, and tells them."""

    name = "provider_status"

    def __init__(
        self,
        *,
        database: Database,
        relay: Relay,
        standings: Standings,
        directory: Callable[[], Directory],
        clock: Clock,
        most: int = SLICE,
        budget: float = BUDGET,
    ) -> None:
        """`most`: users in a slice; `budget`: seconds of telling in one sweep, at least one slice per provider."""
        self._database = database
        self._relay = relay
        self._standings = standings
        self._directory = directory
        self._clock = clock
        self._most = most
        self._budget = budget
        self._lost: dict[str, float] = {}  # since when nothing is known of a provider that was ill, monotonic

    async def sweep(self, now: datetime) -> int:
        """How many users were told. Raises `EngineUnavailable`."""
        async with self._database.reading() as connection:
            known = {row["org_code"]: row for row in await provider_statuses.statuses(connection)}
        behind = {org_code for org_code, row in known.items() if row["told_to"] is not None}
        for org_code, status, retry_at in self._changes(known, await self._standings.standings(), now):
            if await self._changed(org_code, status, retry_at, now):
                behind.add(org_code)
        return await self._tell(sorted(behind), now)

    def _changes(
        self, known: Mapping[str, Row], standings: Iterable[Standing], now: datetime
    ) -> Iterable[tuple[str, Availability, datetime | None]]:
        by_provider: dict[str, list[Standing]] = {}
        for standing in standings:
            by_provider.setdefault(standing.circuit.org_code, []).append(standing)
        for org_code in self._directory().by_org_code:
            before = Availability(known[org_code]["status"]) if org_code in known else Availability.AVAILABLE
            stand = by_provider.get(org_code, [])
            status = availability([(each.state, each.reason) for each in stand], before)
            held = before is not Availability.AVAILABLE and self._may_be_lost(org_code, stand)
            if status is not before and not held:
                yield org_code, status, retry_at(stand, now)

    def _may_be_lost(self, org_code: str, stand: Sequence[Standing]) -> bool:
        """Whether a provider is well only because nothing is known of it, which may be the store's loss."""
        if stand:
            self._lost.pop(org_code, None)
            return False
        moment = self._clock.monotonic()
        return moment - self._lost.setdefault(org_code, moment) < LOST_AFTER

    async def _changed(self, org_code: str, status: Availability, until: datetime | None, now: datetime) -> bool:
        return await self._database.single(lambda connection: provider_statuses.change(connection, org_code, status, until, now))

    async def _tell(self, behind: Sequence[str], now: datetime) -> int:
        """A slice of each in turn, so that no provider's many users keep another's waiting."""
        told, queue, end = 0, deque(behind), self._clock.monotonic() + self._budget
        first = len(queue)
        while queue and (first > 0 or self._clock.monotonic() < end):
            org_code, first = queue.popleft(), first - 1
            if entries := await self._next_slice(org_code, now):
                await self._push(entries)
                queue.append(org_code)
                told += len(entries)
        return told

    async def _next_slice(self, org_code: str, now: datetime) -> list[tuple[str, Entry]]:
        """What was committed; empty: everybody was told, or somebody else is at it."""

        async def deed(connection: Connection) -> list[tuple[str, Entry]]:
            row = await provider_statuses.telling(connection, org_code)
            if row is None:
                return []
            fact = ProviderStatusChanged(
                at=row["changed_at"], org_code=org_code, status=Availability(row["status"]), retry_at=row["retry_at"]
            )
            event = fact.event()
            return await provider_statuses.tell(
                connection, org_code, after=row["told_to"], most=self._most, type_=event.type.value, event=event.encode(), now=now
            )

        return await self._database.transaction(deed)

    async def _push(self, entries: Sequence[tuple[str, Entry]]) -> None:
        """What does not reach a feed now is left to the outbox's sweep."""
        for start in range(0, len(entries), AT_ONCE):
            await asyncio.gather(*(self._relay.push(user_id, [entry]) for user_id, entry in entries[start : start + AT_ONCE]))


def retry_at(standings: Iterable[Standing], now: datetime) -> datetime | None:
    """When the last of a provider's open circuits is probed; None: none is open, that is now, or nobody will by itself. RULE."""
    ill = [standing.probe_at_ms for standing in standings if standing.state is not CircuitState.CLOSED]
    moments = [moment for moment in ill if moment is not None]
    if not moments or len(moments) < len(ill):
        return None
    latest = datetime.fromtimestamp(max(moments) / 1000, UTC)
    return latest if latest > now else None
