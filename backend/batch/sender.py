"""One run of one command: each tenth of a second its share of links begins to be read, on deadlines that nothing moves.

In: a command's row, and where to go on. Out: links read again (`refreshing.py`), the command's progress each second. The intent of every
link is committed before its call. While the circuit is not closed, an operator holds the batch, or the provider shows that it has enough,
less leaves or nothing; what was missed is spread over the rest of the minute, and what is left then stays due.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

import structlog

from backend.batch.calendar import in_korea
from backend.batch.commands import DueLink, Position, command_id, due_next
from backend.batch.gentle import Gentle
from backend.batch.pace import CHUNKS_OF_MINUTE, CHUNKS_OF_SECOND, MINUTE, SECONDS_OF_MINUTE, Grid
from backend.batch.paging import Paging
from backend.batch.refreshing import OUT_OF_WINDOW, Attempt, Came, ScheduledRefreshing
from backend.batch.terms import Terms
from backend.clock import Clock
from backend.errors import EngineUnavailable, Trouble
from backend.jobs.queue import Postponed
from backend.metrics import Metric, Sample, Samples, counted
from backend.providers.contract import Provider
from backend.storage import batch_sends, batch_steering
from backend.storage.batch_sends import Counts, Run, State
from backend.storage.database import Database
from backend.storage.statements import Connection, Row, Values

CHUNK = 1 / CHUNKS_OF_SECOND  # seconds
LEAVING = 0.02  # seconds that the calls of a chunk take to leave, one after the other
LONGEST_SLEEP = 0.5  # seconds between two looks at whether the worker stops

HELD_FROM = 5.0  # seconds: a Retry-After of so long is for all processes, a shorter one is over before they hear of it
HELD_ANEW = timedelta(seconds=5)  # by which another one must be longer to be written, too

Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger()


@dataclass
class Tally:
    """What this process's commands came to, since it began; for metrics."""

    sent: int = 0
    recorded: int = 0
    failed: int = 0
    left: int = 0
    skipped: int = 0
    unknown: int = 0
    missed: int = 0  # chunks that were more than a slot late
    flying: int = 0  # links that are being read now

    def measured(self) -> Samples:
        """Of this process."""
        ended = {name: getattr(self, name) for name in ("recorded", "failed", "left", "skipped", "unknown")}
        yield Sample(Metric.BATCH_LINKS_BEGUN, (), self.sent)
        yield from counted(Metric.BATCH_LINKS_ENDED, ended)
        yield Sample(Metric.BATCH_READING, (), self.flying)
        yield Sample(Metric.BATCH_MISSED, (), self.missed)


@dataclass(frozen=True)
class Hold:
    """A provider asks that nobody comes until then."""

    reason: str
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What every command is carried out with. `gate(org_code)`: whether its circuit is closed, for all calls."""

    database: Database
    refreshing: ScheduledRefreshing
    gate: Callable[[str], bool]
    gentle: Gentle
    terms: Terms
    most: int  # links that one process reads at once
    clock: Clock
    sleep: Sleep = asyncio.sleep
    tally: Tally = field(default_factory=Tally)


class Sender:
    """One run of one command."""

    def __init__(self, tools: Tools, row: Row, provider: Provider | None, *, behind: Position, left: int) -> None:
        """`provider` None: it left the directory, and nothing is sent. `behind`: where to go on; `left`: how many links there are."""
        self._tools = tools
        self._row = row
        self._run = run_of(row)
        self._org_code: str = row["org_code"]
        self._provider = provider
        self._grid = Grid.of(row["size"], row["per_100ms"], per_minute=row["per_minute"])
        self._grid = self._grid.after(row["size"] - left)
        self._passed = behind  # the last link that was taken
        self._links: deque[DueLink] = deque()
        self._flights: dict[Position, tuple[Position, asyncio.Task[None]]] = {}  # with the position before each, in their order
        self._counts = Counts()
        self._eased_to = 0  # the chunk before which all were told to easing
        self._beating: asyncio.Task[None] | None = None
        self._beaten = -1  # the second of the last one
        self._read_out = False  # whether there are no more pages
        self._held: bool = row["paused"]  # by an operator, or for what its provider said before
        self._hold: Hold | None = None  # the longest that the provider asked for
        self._is_told = False  # whether that is written
        self._shut = False  # nothing more is sent: another run has begun, or the provider says that its window is not open
        self._stopped = False  # the process ends
        self._in_doubt = False  # whether something was begun of which nobody knows the end
        self._begins: float = tools.clock.monotonic() + (row["minute"] - tools.clock.now()).total_seconds()  # of the minute, monotonic
        self._paging = Paging(
            self._page,
            command=command_id(self._org_code, row["minute"]),
            behind=behind,
            size=row["size"],
            sleep=tools.sleep,
            again_from=None if row["run"] == 1 else Position(row["start_due"], row["start_link"]),
        )
        self._ran = False

    @property
    def is_at_work(self) -> bool:
        """Whether anything of it is still under way."""
        return not self._ran or bool(self._flights)

    async def close(self) -> None:
        """Gives up what is under way."""
        flights = [flight for _, flight in self._flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def stop(self) -> None:
        """As soon as may be."""
        self._stopped = True

    async def run(self) -> None:
        """The whole minute, or what is left of it, and until what was begun has ended.

        Cancelled, since another worker has the command: what was begun ends by itself, and is recorded, so that it is not begun again.
        """
        paging = asyncio.create_task(self._paging.run())
        try:
            await self._minute()
            paging.cancel()
            await self._landed()
            if self._paging.has_failed:
                await paging  # raises: the command is begun again, and given up in the end
            await self._close()
        finally:
            self._ran = True
            paging.cancel()
            await asyncio.gather(paging, return_exceptions=True)

    async def _minute(self) -> None:
        chunk = 0
        while chunk < CHUNKS_OF_MINUTE and self._provider is not None and not (self._is_done or self._is_cut_short):
            if await self._until(chunk) and not self._is_cut_short:
                chunk = self._not_before(chunk)
                if chunk < CHUNKS_OF_MINUTE:
                    await self._chunk(chunk, self._provider)
                    chunk = self._not_before(chunk, LEAVING) + 1  # what leaves late has taken the place of the chunk that stands there
                self._beat_each_second(chunk // CHUNKS_OF_SECOND)

    def _not_before(self, chunk: int, ahead: float = 0.0) -> int:
        """This chunk, or that of this moment (or so much later), if this one's time has passed: then those in between are missed."""
        now = self._now(ahead)
        self._tools.tally.missed += max(now - chunk, 0) if chunk else 0
        return max(now, chunk)

    @property
    def _is_done(self) -> bool:
        return self._grid.left <= 0 or (self._read_out and not self._links)

    @property
    def _is_cut_short(self) -> bool:
        """By ourselves, too: pages that cannot be read, or a machine that slept for longer than the clock of the grid knows."""
        return self._stopped or self._shut or self._paging.has_failed or self._tools.clock.now() >= self._row["minute"] + MINUTE

    def _now(self, ahead: float) -> int:
        """The chunk of this moment, or of one that is so much later."""
        return int((self._tools.clock.monotonic() + ahead - self._begins) / CHUNK + 1e-6)

    async def _until(self, chunk: int) -> bool:
        """Waits for its moment. False: not all the way; there may be a reason to stop."""
        wait = self._begins + chunk * CHUNK - self._tools.clock.monotonic()
        if wait > 0:
            await self._tools.sleep(min(wait, LONGEST_SLEEP))
        return wait <= LONGEST_SLEEP

    async def _chunk(self, chunk: int, provider: Provider) -> None:
        """One tenth of a second's share."""
        after, share = self._grid.chunk(chunk)
        links = self._taken(self._allowed(self._eased(chunk, share)))
        self._grid = self._grid.after(len(links), after.course)
        if not links:
            return
        try:
            rows = await self._intended([link.user_id for link in links])
        except EngineUnavailable as exc:
            log.info("batch.intent_waits", engine=exc.engine)
            self._in_doubt = True
            self._links.extendleft(reversed(links))
            self._grid = self._grid.after(-len(links))
            return
        going = {row["user_id"]: row for row in rows}
        for link in links:
            if (row := going.get(link.user_id)) is not None:
                self._begin(link, row, provider)
            self._passed = link.position

    def _allowed(self, share: int) -> int:
        """What of a share may leave now."""
        if not share or self._held or not self._tools.gate(self._org_code):
            return 0
        return max(min(share, self._room()), 0)

    def _room(self) -> int:
        """A slow provider takes half of what others leave free, so there is always room for one more."""
        mine = len(self._flights)
        others = self._tools.tally.flying - mine
        return max((self._tools.most - others) // 2, 1) - mine

    def _eased(self, chunk: int, share: int) -> int:
        """What a provider that shows that it has enough leaves of a share. It is told of all chunks, empty and missed ones, too."""
        part = self._row["size"] * (chunk + 1 - self._eased_to) / CHUNKS_OF_MINUTE
        self._eased_to = chunk + 1
        second = self._row["size"] / SECONDS_OF_MINUTE
        return self._tools.gentle.allowed(self._org_code, share, part=part, second=second, now=self._tools.clock.monotonic())

    def _taken(self, count: int) -> list[DueLink]:
        """So many links, or those that are there: a page that is late is not waited for."""
        while len(self._links) < count and not self._read_out and (page := self._paging.taken()) is not None:
            self._links.extend(page.links)
            self._read_out = not page.links
        taken = list(islice(self._links, count))
        for _ in taken:
            self._links.popleft()
        return taken

    async def _intended(self, user_ids: list[str]) -> list[Row]:
        now, due = self._tools.clock.now(), self._tools.terms.due_at(self._row["minute"])
        return await self._tools.database.single(lambda connection: batch_sends.intend(connection, self._run, due, user_ids, now))

    def _begin(self, link: DueLink, row: Row, provider: Provider) -> None:
        attempt = Attempt(self._run, self._row["week"], row["attempt"], row)
        self._tools.tally.sent += 1
        self._tools.tally.flying += 1
        self._tools.gentle.sent(self._org_code)
        self._count(sent=1)
        flight = asyncio.create_task(self._fly(attempt, provider))
        self._flights[link.position] = (self._passed, flight)
        flight.add_done_callback(lambda _: self._has_landed(link.position))

    def _has_landed(self, position: Position) -> None:
        del self._flights[position]
        self._tools.tally.flying -= 1

    async def _fly(self, attempt: Attempt, provider: Provider) -> None:
        try:
            came = await self._tools.refreshing.refresh(attempt, provider)
            self._note(came)
            if self._wants_hold(came, provider):
                await self._tools.database.single(self._write_hold)
        except EngineUnavailable:
            self._in_doubt = True
        except Exception as exc:  # a fault of ours, with one link; the others go on
            frames = traceback.extract_tb(exc.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
            log.error("scheduled.fault", org_code=self._org_code, error=type(exc).__name__, where=where)
            self._note(Came(State.FAILED))
            await self._given_up(attempt)

    async def _given_up(self, attempt: Attempt) -> None:
        try:
            await self._tools.refreshing.give_up(attempt)
        except Exception as exc:
            log.error("scheduled.not_given_up", org_code=self._org_code, error=type(exc).__name__)
            self._in_doubt = True

    def _wants_hold(self, came: Came, provider: Provider) -> bool:
        """Whether what a provider said is a new reason to let nobody ask it, in this process or in another, or one for longer."""
        now = self._tools.clock.now()
        if came.error_code == OUT_OF_WINDOW:
            hold = Hold(OUT_OF_WINDOW, self._tools.terms.opens_next(provider, now))
        elif came.busy_for is not None and came.busy_for >= HELD_FROM:
            hold = Hold(Trouble.BUSY, now + timedelta(seconds=came.busy_for))
        else:
            return False
        if self._hold is not None and hold.until < self._hold.until + HELD_ANEW:
            return False
        self._hold, self._is_told = hold, False
        return True

    async def _write_hold(self, connection: Connection) -> None:
        """Whoever comes next does not ask it, either."""
        if (hold := self._hold) is not None and not self._is_told:
            now = self._tools.clock.now()
            await batch_steering.hold(connection, self._org_code, reason=hold.reason, until=hold.until, now=now)
            self._is_told = hold is self._hold

    def _note(self, came: Came) -> None:
        tally = self._tools.tally
        if came.state is State.RECORDED:
            tally.recorded += 1
            self._count(recorded=1)
            return
        tally.failed += came.state is State.FAILED
        tally.left += came.state is State.LEFT
        self._count(failed=1)
        if came.busy_for is not None:
            self._tools.gentle.busy(self._org_code, came.busy_for, self._tools.clock.monotonic())
        if came.error_code == OUT_OF_WINDOW:
            log.error("batch.out_of_window", org_code=self._org_code)
            self._shut = True

    def _count(self, *, sent: int = 0, recorded: int = 0, failed: int = 0, skipped: int = 0) -> None:
        known = self._counts
        self._counts = Counts(
            sent=known.sent + sent, recorded=known.recorded + recorded, failed=known.failed + failed, skipped=known.skipped + skipped
        )

    # Pages.

    async def _page(self, behind: Position, size: int) -> list[DueLink]:
        """What is due behind a position; what its person has refreshed on the way is put off."""
        tools, due = self._tools, self._tools.terms.due_at(self._row["minute"])
        between = between_of(self._row, behind)
        async with tools.database.reading() as connection:
            rows = await batch_sends.page(connection, self._org_code, due, between, size)
        links = [DueLink(Position(row["due_on"], row["link_id"]), row["user_id"]) for row in rows]
        if due.fresh_since is not None:
            upto = between if not links else {**between, "limit_due": links[-1].position.due_on, "limit_link": links[-1].position.link_id}
            skipped = await tools.database.single(
                lambda connection: batch_sends.skip(connection, self._org_code, upto, due=due, max_age_days=tools.terms.max_age_days)
            )
            tools.tally.skipped += skipped
            self._count(skipped=skipped)
        return links

    # Progress.

    def _beat_each_second(self, second: int) -> None:
        """Nobody waits for it; one that is slow is not followed by another."""
        if second != self._beaten and (self._beating is None or self._beating.done()):
            self._beaten = second
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        """Up to where everything has ended, and what was counted since the last time."""
        counts, self._counts = self._counts, Counts()
        first = next(iter(self._flights.values()), None)
        at = self._passed if first is None else first[0]
        now = self._tools.clock.now()
        eased = self._tools.gentle.is_eased(self._org_code, self._tools.clock.monotonic())
        try:
            held = await self._tools.database.single(
                lambda connection: batch_sends.beat(connection, self._run, (at.due_on, at.link_id), counts, now, eased=eased)
            )
        except EngineUnavailable:
            self._count(sent=counts.sent, recorded=counts.recorded, failed=counts.failed, skipped=counts.skipped)
            return
        self._held = bool(held)
        if held is None:
            log.warning("command.overtaken", org_code=self._org_code, run=self._run.run)
            self._shut = True

    async def _landed(self) -> None:
        while self._flights:
            await asyncio.wait([flight for _, flight in self._flights.values()])
        if self._beating is not None:
            await asyncio.gather(self._beating, return_exceptions=True)
        await self._beat()

    async def _close(self) -> None:
        """The command is over, unless this process is, and another may still go on. Raises `Postponed` then."""
        now = self._tools.clock.now()
        if self._stopped and not self._is_done and now < self._row["minute"] + MINUTE - timedelta(seconds=CHUNK):
            raise Postponed(now)

        async def deed(connection: Connection) -> None:
            if self._in_doubt:
                await lost(connection, Run(self._run.org_code, self._run.minute, self._run.run + 1), self._row, self._tools)
            await self._write_hold(connection)
            await batch_sends.end(connection, self._run, now)

        await self._tools.database.transaction(deed)


def run_of(row: Row) -> Run:
    """Who writes from now on."""
    return Run(row["org_code"], row["minute"], row["run"])


def between_of(row: Row, behind: Position) -> Values:
    """Of a command's range what lies behind a position."""
    return {"at_due": behind.due_on, "at_link": behind.link_id, "limit_due": row["limit_due"], "limit_link": row["limit_link"]}


async def lost(connection: Connection, run: Run, row: Row, tools: Tools) -> int:
    """Attempts of runs before this one that never ended are unknown from now on. Returns how many."""
    now = tools.clock.now()
    due_on = due_next(row["week"], in_korea(now), tools.terms.max_age_days)
    return await batch_sends.lose(connection, run, due_on=due_on, unknown_attempts=tools.terms.unknown_attempts, now=now)
