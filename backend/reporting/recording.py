"""From the stream of reports to sums in PostgreSQL, each report once, however often it comes and whoever writes.

In: a stream that is read from a cursor. Out: one statement per second at most, with what the reports add, their numbers and the new cursor,
so a writer that is killed anywhere has written all of it or nothing. Two writers at once do no harm: one of them finds that the version
has changed, and looks again. Nothing is kept in memory between two writes. Whoever leads runs it; a late leader counts nothing twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Protocol

import structlog
from msgspec import Struct, structs

from backend.clock import Clock
from backend.providers.circuits import Report
from backend.reporting.increments import Increments, increments
from backend.storage import traffic
from backend.storage.database import Database
from backend.storage.statements import Connection
from backend.storage.traffic import Held

EVERY = 1.0  # seconds between two writes
MOST_REPORTS = 500  # of one write; more are waiting: no pause before the next one
PAUSES = (0.5, 5.0)  # seconds after an engine was away, doubling from the first to the second

EPOCH = date(1970, 1, 1)

log = structlog.get_logger(__name__)


class Said(Protocol):
    """An entry of the stream."""

    @property
    def word(self) -> object:
        """A `Report`, or something that is no matter of ours."""
        ...


class Stream(Protocol):
    """Where reports come from."""

    async def read(self, after: str, wait: float) -> Sequence[tuple[str, Said]]:
        """What follows the cursor `after`, oldest first, each entry with the cursor behind it. Raises `EngineUnavailable`."""
        ...


class Heard(Struct, frozen=True):
    """What was read in one go."""

    reports: tuple[Report, ...]
    position: str  # behind them
    more: bool  # whether something was left


class Recording:
    """Writes sums. `oldest`: the stream's cursor before everything that it still has."""

    def __init__(
        self, *, stream: Stream, database: Database, clock: Clock, oldest: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._stream = stream
        self._database = database
        self._clock = clock
        self._oldest = oldest
        self._sleep = sleep

    async def run(self) -> None:
        """Until it is cancelled. Engines that are away are waited for."""
        pause = 0.0  # while they are
        while True:
            try:
                more = await self.record()
            except Exception as exc:  # whatever it is: sums wait in the stream, and who runs beside us goes on
                if not pause:
                    log.warning("traffic.waiting", why=type(exc).__name__)
                pause = min(pause * 2, PAUSES[1]) if pause else PAUSES[0]
                await self._sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, not a secret
                continue
            if pause:
                log.info("traffic.goes_on")
                pause = 0.0
            await self._sleep(0 if more else EVERY)

    async def record(self) -> bool:
        """Brings what the stream has into the sums; True: there is more. Raises `EngineUnavailable`; what was not written is read again."""
        begun = (await self._held(())).position
        heard = await self._heard(begun or self._oldest)
        if heard.position != begun:
            await self._write(begun, heard)
        return heard.more

    async def _heard(self, position: str) -> Heard:
        reports: list[Report] = []
        while entries := await self._stream.read(position, 0):
            position = entries[-1][0]
            reports += [_without_calls(entry.word) for _, entry in entries if isinstance(entry.word, Report)]
            if len(reports) >= MOST_REPORTS:
                return Heard(tuple(reports), position, more=True)
        return Heard(tuple(reports), position, more=False)

    async def _write(self, begun: str, heard: Heard) -> None:
        """Writes, unless somebody else has meanwhile read on from `begun`: then it is theirs."""
        try:
            while not await self._written(begun, heard.reports, heard.position):
                pass
        except ValueError as exc:  # our own nodes say nothing that no column takes; what they say otherwise must not stop all the rest
            log.error("traffic.not_usable", reports=len(heard.reports), error=str(exc))
            await self._write_one_by_one(begun, heard)

    async def _write_one_by_one(self, begun: str, heard: Heard) -> None:
        """All but the reports that cannot be used. The cursor stays until all are through, so that nobody misses one."""
        for report in heard.reports:
            try:
                while not await self._written(begun, (report,), begun):
                    pass
            except ValueError:
                log.error("traffic.report_left_out", node=report.node, number=report.number)
        while not await self._written(begun, (), heard.position):
            pass

    async def _written(self, begun: str, reports: Sequence[Report], position: str) -> bool:
        """False: somebody else wrote, or a person was forgotten, between our look and our write; look again."""
        held = await self._held([report.node for report in reports])
        if held.position != begun:
            return True
        now = self._clock.now()
        new = increments(reports, held.counted, oldest_day=(traffic.oldest_day(now) - EPOCH).days)

        async def deed(connection: Connection) -> bool:
            return await traffic.add(connection, new.rows, position=position, version=held.version, now=now)

        written = await self._database.single(deed)
        if written:
            self._tell(new)
        return written

    async def _held(self, nodes: Sequence[str]) -> Held:
        async with self._database.reading() as connection:
            return await traffic.held(connection, nodes)

    def _tell(self, new: Increments) -> None:
        if new.uncounted:
            log.warning("traffic.uncounted", calls=new.uncounted)


def _without_calls(report: Report) -> Report:
    """What is added up is in the roll-ups; single calls of hundreds of reports would only take room (200 KB each, at worst)."""
    return structs.replace(report, calls=())
