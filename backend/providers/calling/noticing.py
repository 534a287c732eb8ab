"""From ended calls to numbered reports: a bounded buffer, told ten times a second, and at once when calls fail.

In: `Noticed`, one per call, by a method that never waits. Out: `Report`s to a port, one after the other. A report that was perhaps
received is sent again as it is, under its number, until it was; meanwhile calls gather, and the oldest give way and are counted. Their
roll-ups don't: they are sums, so nothing of them is lost while nobody listens. Nothing here is on the road of a call.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable
from random import random
from types import TracebackType
from typing import Protocol
from uuid import uuid4

import msgspec
import structlog
from msgspec import Struct

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.providers.circuits import CallEnded, Circuit, Report
from backend.providers.contract import ApiType
from backend.providers.outcomes import Weight
from backend.providers.traffic import Tally

TOLD_EVERY = 0.1  # seconds from a call's end to its report
A_SUM = 0.005  # seconds for each roll-up of a report until the next with roll-ups: what a killed process takes along, against their number
SUMS_EVERY = 0.5  # seconds, at most, between two reports with roll-ups
BREATH = 0.025  # seconds between two reports, however many calls fail: they cost more than the calls in them
MOST_CALLS = 20_000  # that wait: four seconds of what a node is built for
MOST_IN_A_REPORT = 2_000  # calls, about 100 KB
SENT_WITHIN = 5.0  # seconds, of one attempt
PAUSES = (0.1, 2.0)  # seconds after a report was not taken, doubling from the first to the second
LAST_WORDS = 2.0  # seconds that an ending process takes for what it has not told

log = structlog.get_logger(__name__)


class Noticed(Struct, frozen=True, gc=False):
    """How one call ended."""

    circuit: Circuit
    epoch: int  # of the decision under which it began
    weight: Weight | None  # None: we ended it, which is a sign of nothing
    began: float  # monotonic, seconds
    took: float  # seconds
    api_code: str
    api_type: ApiType | None
    reason: str | None  # None: it was answered
    user: str | None  # `traffic.user_key`; None: for nobody in particular
    resting_ms: float | None = None  # it said planned maintenance, for so long; 0: not until when. None: it said nothing of it


class Reports(Protocol):
    """Where reports go."""

    async def send(self, report: Report) -> None:
        """Returns when the report is kept. Raises `EngineUnavailable`; then it may have been kept all the same."""
        ...


class ReportsInMemory:
    """The port's twin without a network. While `away`, reports are refused; while `mute`, they are kept but not confirmed."""

    def __init__(self) -> None:
        self.received: list[Report] = []  # every time, in order
        self.away = False
        self.mute = False

    async def send(self, report: Report) -> None:
        if self.away:
            raise EngineUnavailable("Valkey")
        self.received.append(report)
        if self.mute:
            raise EngineUnavailable("Valkey")

    @property
    def counted(self) -> list[Report]:
        """Each number once, as it came first."""
        return list({(report.node, report.number): report for report in reversed(self.received)}.values())[::-1]


def node_name() -> str:
    """Machine and process, so that operators find it, and some letters of this life: a process id comes again."""
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{uuid4().hex[:8]}"


class Noticing:
    """What this process noticed. Use as an async context manager: it reports while the block runs, and says what is left at its end."""

    def __init__(self, reports: Reports, clock: Clock, *, node: str | None = None, draw: Callable[[], float] = random) -> None:
        """`node`: names this process; None: `node_name`. `draw`: a number in [0, 1), for pauses."""
        self.node = node or node_name()
        self._reports = reports
        self._clock = clock
        self._draw = draw
        self._number = 0
        self._fresh: list[Noticed] = []
        self._waiting: deque[Noticed] = deque()
        self._dropped = 0
        self._tally = Tally()
        self._sums_at = 0.0  # when a report may have roll-ups again, monotonic
        self._unsent: tuple[Report, float] | None = None  # and when it was made
        self._anything = asyncio.Event()
        self._failed = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    def notice(self, noticed: Noticed) -> None:
        """Takes one call in. Never waits, never raises."""
        self._fresh.append(noticed)
        if noticed.weight is Weight.FAILURE:
            self._failed.set()
        if len(self._fresh) == 1:
            self._anything.set()
        elif len(self._fresh) >= MOST_IN_A_REPORT:
            self._digest()

    @property
    def waiting(self) -> int:
        """Calls that are in no report yet, and those of one that was not taken yet, at least one; cancelled ones only while fresh."""
        return len(self._fresh) + len(self._waiting) + (max(len(self._unsent[0].calls), 1) if self._unsent else 0)

    @property
    def all_told(self) -> bool:
        """Whether nothing is left to say, roll-ups included."""
        return not self.waiting and not self._tally

    async def __aenter__(self) -> Noticing:
        self._telling = asyncio.create_task(self.tell())
        return self

    async def __aexit__(self, _type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
        await asyncio.create_task(self._last_words())

    async def tell(self) -> None:
        """Reports, one at a time, until it is cancelled."""
        while True:
            if not self._tally:
                await self._anything.wait()
            await self._for(TOLD_EVERY)
            self._anything.clear()
            self._failed.clear()
            while await self._tell_next():
                await asyncio.sleep(0)
            await asyncio.sleep(BREATH)

    async def _for(self, seconds: float) -> None:
        """So long, or until a call fails."""
        try:
            async with asyncio.timeout(seconds):
                await self._failed.wait()
        except TimeoutError:
            pass

    async def _tell_next(self) -> bool:
        """Sends one report until it is taken; False: there is none."""
        if self._unsent is None and not self._make():
            return False
        pause = PAUSES[0]
        while not await self._sent():
            await asyncio.sleep(pause * (0.5 + self._draw() / 2))
            pause = min(pause * 2, PAUSES[1])
        return True

    async def _sent(self) -> bool:
        """One attempt."""
        if self._unsent is None:
            return True
        report, made = self._unsent
        waited = round((self._clock.monotonic() - made) * 1000)
        try:
            async with asyncio.timeout(SENT_WITHIN):
                await self._reports.send(msgspec.structs.replace(report, waited_ms=waited) if waited else report)
        except Exception as exc:  # whatever it is: calls go on, and the sums are kept
            log.warning("report.not_taken", number=report.number, waiting=self.waiting, why=type(exc).__name__)
            return False
        self._unsent = None
        return True

    async def _last_words(self) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS):
                while (self._unsent is not None or self._make(last=True)) and await self._sent():
                    pass
        except TimeoutError:
            log.warning("report.not_taken", number=self._number, waiting=self.waiting)

    def _make(self, *, last: bool = False) -> bool:
        """The next report, under the next number; False: there is nothing to say yet. The `last` one says all."""
        self._digest()
        now = self._clock.monotonic()
        sums = bool(self._tally) and (last or now >= self._sums_at)
        if not self._waiting and not sums:
            return False
        calls = tuple(_ended(self._waiting.popleft(), now) for _ in range(min(len(self._waiting), MOST_IN_A_REPORT)))
        rollups, seen, uncounted = self._tally.taken() if sums else ((), (), 0)
        if sums:
            self._sums_at = now + min(SUMS_EVERY, A_SUM * len(rollups))
        self._number += 1
        report = Report(
            node=self.node, number=self._number, calls=calls, dropped=self._dropped, rollups=rollups, seen=seen, uncounted=uncounted
        )
        self._dropped = 0
        self._unsent = report, now
        return True

    def _digest(self) -> None:
        """Adds up what is fresh, and lets the oldest go where there is no room."""
        fresh, self._fresh = self._fresh, []
        unix = self._clock.now().timestamp() - self._clock.monotonic()  # from one clock to the other
        add, wait = self._tally.add, self._waiting.append
        for each in fresh:
            org_code, scheduled, began_ms = each.circuit.org_code, each.api_type is ApiType.SCHEDULED, int((each.began + unix) * 1000)
            if each.weight is None:
                self._tally.add_cancelled(org_code, each.api_code, scheduled, began_ms, each.user)
                continue
            took_ms = int(each.took * 1000 + 0.5)
            add(org_code, each.api_code, scheduled, began_ms, each.user, took_ms, each.reason, each.weight is Weight.SLOW)
            wait(each)
        for _ in range(len(self._waiting) - MOST_CALLS):
            self._waiting.popleft()
            self._dropped += 1


def _ended(noticed: Noticed, now: float) -> CallEnded:
    ago_ms, took_ms = round((now - noticed.began - noticed.took) * 1000), round(noticed.took * 1000)  # whole ones: half of the bytes
    weight = noticed.weight or Weight.IGNORED  # those that we ended are not told
    return CallEnded(noticed.circuit, noticed.epoch, weight, took_ms, ago_ms, noticed.resting_ms, noticed.reason)
