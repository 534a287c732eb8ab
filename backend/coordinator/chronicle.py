"""Writes down what was decided about circuits, and tells the operators' feed of each change once.

In: standings, as soon as they are stored, and all that are stored, look by look, so that what a leader could not write down any more is
written by the next. Out: rows and `breaker.*` events. Nothing here keeps a decision waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from backend.clock import iso
from backend.coordinator.standing import Standing
from backend.coordinator.store import Admitted, DecisionStore, Reign, Stored
from backend.events import Event, OperatorsEventType
from backend.providers.circuits import Circuit, CircuitState, Decision, Mode
from backend.storage import decisions
from backend.storage.database import Database
from backend.storage.decisions import Change
from backend.storage.outbox import Entry, Relay, publish_shared
from backend.storage.statements import Connection

KEPT = timedelta(days=30)
MOST = 10_000  # changes that wait for PostgreSQL; the oldest give way
_AT_ONCE = 500

_TYPES = {
    CircuitState.OPEN: OperatorsEventType.BREAKER_OPENED,
    CircuitState.HALF_OPEN: OperatorsEventType.BREAKER_HALF_OPENED,
    CircuitState.CLOSED: OperatorsEventType.BREAKER_CLOSED,
}

log = structlog.get_logger()


class Chronicle:
    """One per reign, since what an old leader has in mind is old: `stored` notes, `sweep` writes."""

    name = "circuit_decisions"

    def __init__(self, *, database: Database, relay: Relay, store: DecisionStore, feed: str) -> None:
        """`feed`: the operators', by its name."""
        self._database = database
        self._relay = relay
        self._store = store
        self._feed = feed
        self._waiting: deque[Standing] = deque(maxlen=MOST)
        self._written: dict[Circuit, float] = {}  # since when each circuit stood as it was written down last, ms

    def stored(self, standings: Iterable[Standing]) -> None:
        """These stand from now on. Never waits, never raises."""
        self._waiting.extend(standing for standing in standings if standing.epoch)

    async def sweep(self, now: datetime) -> int:
        """How many changes were new. Raises `EngineUnavailable`; nothing is lost then."""
        self.stored((await self._store.read()).standings)
        found = 0
        while self._waiting:
            part = list(self._waiting)[:_AT_ONCE]
            found += await self._write(self._unwritten(part), now)
            for standing in part:
                self._waiting.popleft()
                self._written[standing.circuit] = standing.since_ms
        await self._database.single(lambda connection: decisions.forget(connection, before=now - KEPT))
        return found

    def _unwritten(self, standings: Iterable[Standing]) -> list[Change]:
        """Those that this process has not written down yet; a standing that was told again is none."""
        known, found = dict(self._written), []
        for standing in standings:
            if known.get(standing.circuit) != standing.since_ms:
                known[standing.circuit] = standing.since_ms
                found.append(change_of(standing))
        return found

    async def _write(self, changes: Sequence[Change], now: datetime) -> int:
        if not changes:
            return 0

        async def deed(connection: Connection) -> list[Entry]:
            fresh = await decisions.record(connection, changes)
            return await publish_shared(connection, self._feed, [event_of(change) for change in fresh], now) if fresh else []

        entries = await self._database.transaction(deed)
        await self._relay.push(self._feed, entries)
        return len(entries)


class Chronicled:
    """A store that tells the chronicle what it took."""

    def __init__(self, store: DecisionStore, chronicle: Chronicle) -> None:
        self._store = store
        self._chronicle = chronicle

    async def read(self) -> Stored:
        """See `DecisionStore`."""
        return await self._store.read()

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        """See `DecisionStore`."""
        standings = list(standings)
        taken = await self._store.put(reign, standings, decisions, admitted)
        if taken:
            self._chronicle.stored(standings)
        return taken


def change_of(standing: Standing) -> Change:
    """RULE."""
    return Change(
        at=datetime.fromtimestamp(standing.since_ms / 1000, UTC),
        org_code=standing.circuit.org_code,
        scope=standing.circuit.scope.value,
        state=standing.state.value,
        mode=standing.mode.value,
        reason=standing.reason,
        epoch=standing.epoch,
    )


def event_of(change: Change) -> Event:
    """RULE: what operators hear of a change."""
    kind = OperatorsEventType.BREAKER_FORCED if change.mode != Mode.AUTO else _TYPES[CircuitState(change.state)]
    data = {"scope": change.scope, "state": change.state, "mode": change.mode, "reason": change.reason, "epoch": change.epoch}
    return Event(kind, iso(change.at), org_code=change.org_code, data=data)
