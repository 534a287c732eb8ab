"""Commands carried out: the batch worker's jobs. What one run of one command does is `sender.py`.

In: a command's name. Out: it is carried out from where it is. Whoever begins it takes it from whoever had it: a worker that dies is
followed by another, which goes on behind what was begun, and comes back at the end to what was lost. A worker that is told to end hands
over what it has not begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from backend.batch.commands import Position
from backend.batch.pace import MINUTE
from backend.batch.refreshing import WAITED_FOR
from backend.batch.sender import Sender, Tally, Tools, between_of, lost, run_of
from backend.batch.terms import Terms
from backend.providers.directory import Directory
from backend.storage import batch_sends
from backend.storage.statements import Connection, Row

MOST_RUNS = 20  # of one command, whose workers die
AHEAD = timedelta(seconds=10)  # a command's job may begin before its minute does

log = structlog.get_logger()


class Sending:
    """Runs `scheduled_send` jobs. One per batch worker."""

    def __init__(self, tools: Tools, directory: Callable[[], Directory]) -> None:
        self._tools = tools
        self._directory = directory
        self._senders: set[Sender] = set()
        self._stopping = False

    @property
    def tally(self) -> Tally:
        """For metrics."""
        return self._tools.tally

    def stop(self) -> None:
        """Nothing more is begun: jobs wait for what is under way, and give the rest back."""
        self._stopping = True
        for sender in self._senders:
            sender.stop()

    async def close(self) -> None:
        """Gives up what is still under way."""
        await asyncio.gather(*(sender.close() for sender in self._senders))

    async def send(self, org_code: str, minute: datetime) -> None:
        """Carries a command out, from where it is. Raises `Postponed` when this process ends before the command does."""
        begun = await self._begun(org_code, minute)
        if begun is None:
            return
        row, behind = begun
        provider = self._directory().provider(org_code)
        sender = Sender(self._tools, row, provider, behind=behind, left=await self._left(row) if provider else 0)
        self._senders = {other for other in self._senders if other.is_at_work} | {sender}
        if self._stopping:
            sender.stop()
        await sender.run()

    async def give_up(self, org_code: str, minute: datetime) -> None:
        """Ends a command on which our own code failed again and again; its links stay due."""
        if (begun := await self._begun(org_code, minute)) is not None:
            run, now = run_of(begun[0]), self._tools.clock.now()
            await self._tools.database.single(lambda connection: batch_sends.end(connection, run, now))

    async def _begun(self, org_code: str, minute: datetime) -> tuple[Row, Position] | None:
        """The command's row, and behind which position it goes on: no other run of it changes anything from here on."""
        tools, now = self._tools, self._tools.clock.now()

        async def deed(connection: Connection) -> tuple[Row, Position, int] | None:
            row = await batch_sends.begin(connection, org_code, minute, now)
            if row is None:
                return None
            at = Position(row["at_due"], row["at_link"])
            if row["run"] == 1:
                return row, at, 0
            furthest = await batch_sends.furthest(connection, run_of(row))
            return row, at if furthest is None else Position(*furthest), await lost(connection, run_of(row), row, tools)

        begun = await tools.database.transaction(deed)
        if begun is None:
            return None
        row, behind, unknown = begun
        if row["run"] > 1:
            tools.tally.unknown += unknown
            log.warning("command.resumed", org_code=org_code, run=row["run"], unknown=unknown)
        return row, behind

    async def _left(self, row: Row) -> int:
        """Links that this run is to send. Where another has begun, it is counted."""
        if row["run"] == 1:
            return int(row["size"])
        between = between_of(row, Position(row["start_due"], row["start_link"]))
        async with self._tools.database.reading() as connection:
            due = self._tools.terms.due_at(row["minute"])
            return min(await batch_sends.left(connection, row["org_code"], due, between), int(row["size"]))


def longest_run(terms: Terms) -> timedelta:
    """After which a job of a command is given up: its minute, the longest of its links, and the writing of what it read."""
    return AHEAD + MINUTE + terms.finish + timedelta(seconds=2 * WAITED_FOR)
