"""One clock for what the whole fleet adds up: Valkey's, carried on by each process's own even clock between two looks.

In: the moments that come with the whole state, which every process reads every few seconds. Out: a `Clock` whose wall time is the fleet's,
however wrong the machine's may be, so that a call counts in the same hour whichever node made it. Until Valkey has answered once, it is the
machine's. Never here: a question of its own to Valkey, or a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import structlog

from backend.clock import Clock
from backend.coordinator.standing import Standing
from backend.coordinator.store import Admitted, DecisionStore, Reign, Stored
from backend.jobs.sweeper import Sweep
from backend.providers.circuits import Decision

DOUBTFUL = 0.5  # seconds after which an answer says too little about its moment: we stood still, or Valkey did
WRONG = 5.0  # seconds by which a machine's clock may differ from the fleet's before somebody should look at it

log = structlog.get_logger(__name__)


class FleetClock:
    """A `Clock`. One per process."""

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self._ahead: float | None = None  # of the machine's even clock, seconds. None: Valkey has not answered yet
        self._wrong = False  # whether it was said that the machine's is
        self.known = asyncio.Event()  # set once Valkey has answered

    def now(self) -> datetime:
        """The fleet's moment, in UTC, cut to milliseconds."""
        if self._ahead is None:
            return self._machine.now()
        return datetime.fromtimestamp(int((self._machine.monotonic() + self._ahead) * 1000) / 1000, UTC)

    def monotonic(self) -> float:
        """The machine's."""
        return self._machine.monotonic()

    def told(self, now_ms: float, *, asked: float) -> None:
        """Valkey said that it is `now_ms`, in answer to a question of the monotonic moment `asked`."""
        answered = self._machine.monotonic()
        if answered - asked > DOUBTFUL and self._ahead is not None:
            return
        self._ahead = now_ms / 1000 - (asked + answered) / 2
        self.known.set()
        wrong = self._machine.now().timestamp() - answered - self._ahead
        if (abs(wrong) > WRONG) is not self._wrong:
            self._wrong = not self._wrong
            log.warning("clock.wrong" if self._wrong else "clock.right_again", ahead_seconds=round(wrong, 1))


class TimedStore:
    """A store from which a clock hears, with every reading of the whole, what time it is."""

    def __init__(self, store: DecisionStore, clock: FleetClock) -> None:
        self._store = store
        self._clock = clock

    async def read(self) -> Stored:
        """See `DecisionStore`."""
        asked = self._clock.monotonic()
        stored = await self._store.read()
        self._clock.told(stored.now_ms, asked=asked)
        return stored

    async def put(self, reign: Reign, standings: Iterable[Standing], decisions: Sequence[Decision], admitted: Sequence[Admitted]) -> bool:
        """See `DecisionStore`."""
        return await self._store.put(reign, standings, decisions, admitted)


class ByFleetClock:
    """A sweep that goes by the fleet's moment, and waits until that is known: what is too old is not for one machine to say."""

    def __init__(self, sweep: Sweep, clock: FleetClock) -> None:
        self.name = sweep.name
        self._sweep = sweep
        self._clock = clock

    async def sweep(self, _now: datetime) -> int:
        """See `Sweep`."""
        return await self._sweep.sweep(self._clock.now()) if self._clock.known.is_set() else 0
