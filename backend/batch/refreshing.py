"""One due link read again, and what came of it written: by the code of a registration's collecting, for nobody who waits.

In: a link whose intent is committed. Out: `Came`, after it is written. One that has nothing new is written together with others; one with
news is written with its facts, in one statement, if its user's data are still as they were. Whatever the provider does is a value here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from functools import partial

import structlog
from msgspec import Struct

from backend.batch.calendar import in_korea
from backend.batch.commands import due_next
from backend.batch.terms import Terms
from backend.clock import Clock
from backend.coalescing import Coalesced
from backend.errors import ConsentRequired, EngineUnavailable, ProviderBusy, ProviderError, ProviderResting, Trouble
from backend.links.rereading import Reading, Rereading, refreshed
from backend.providers.contract import ApiType, Provider
from backend.providers.outcomes import Failure, RspCode, failed
from backend.registration.comparing import news
from backend.registration.linking import Held, Linking
from backend.storage import batch_sends
from backend.storage.batch_sends import Done, Ended, Known, Run, State
from backend.storage.database import Database
from backend.storage.outbox import Relay
from backend.storage.statements import Connection, Row

WRITTEN_AT_ONCE = 100  # links
TRIES = 20  # of a record whose user's data changed meanwhile
AGAIN_AFTER = 0.5  # seconds, while PostgreSQL is away
WAITED_FOR = 30.0  # seconds in all: then what was read is lost, and nobody knows how it ended
LONGEST_PACE = 1800.0  # seconds of a Retry-After: a longer one is not about calls a second
OUT_OF_WINDOW = "out_of_window"  # error_code: the provider says that it takes no scheduled calls now, so our calendar is wrong

log = structlog.get_logger()


class Attempt(Struct, frozen=True):
    """One link, as its row was when the intent was written."""

    run: Run
    week: date
    number: int  # 1 is the first
    row: Row

    @property
    def user_id(self) -> str:
        return str(self.row["user_id"])


class Came(Struct, frozen=True):
    """What came of an attempt."""

    state: State
    error_code: str | None = None
    busy_for: float | None = None  # seconds after which a provider wants to be asked again that is asked too much; 0: it did not say


class ScheduledRefreshing:
    """Reads due links. One per batch worker."""

    def __init__(self, *, database: Database, relay: Relay, linking: Linking, rereading: Rereading, clock: Clock, terms: Terms) -> None:
        self._database = database
        self._relay = relay
        self._linking = linking
        self._rereading = rereading
        self._clock = clock
        self._terms = terms
        self._recorded = Coalesced(self._record_each, most=WRITTEN_AT_ONCE)
        self._known = Coalesced(self._known_each, most=WRITTEN_AT_ONCE)
        self._failed = Coalesced(self._fail_each, most=WRITTEN_AT_ONCE)

    async def refresh(self, attempt: Attempt, provider: Provider) -> Came:
        """Reads it and writes what came of it. Raises `EngineUnavailable` when that cannot be written: then nobody knows."""
        held = self._linking.held_in(attempt.row)
        try:
            async with asyncio.timeout(self._terms.finish_of(provider).total_seconds()):
                if held is None:
                    raise ConsentRequired(provider.org_code, "its time is over")
                reading = await self._rereading.read(attempt.user_id, provider, ApiType.SCHEDULED, held)
        except ProviderError as exc:
            return await self._fail(attempt, exc, held)
        except TimeoutError:
            return await self._fail(attempt, failed(provider.org_code, Failure.DEADLINE), held)
        if await self._again_while_away(partial(self._record, attempt, reading)):
            return Came(State.RECORDED)
        return await self._fail(attempt, ConsentRequired(provider.org_code, "the link ended"), held)

    async def give_up(self, attempt: Attempt) -> None:
        """Ends an attempt on which our own code failed."""
        await self._end(attempt, Came(State.FAILED, Trouble.INTERNAL), counted=True)

    # What was read.

    async def _record(self, attempt: Attempt, reading: Reading) -> bool:
        """False: the link has ended, or is another one by now."""
        done = Done(
            user_id=attempt.user_id,
            org_code=reading.org_code,
            week=attempt.week,
            consent_tx_id=reading.grant.consent_tx_id,
            search_timestamps=reading.timestamps.reached,
            due_on=self._due_next(attempt),
        )
        if not (reading.assets or reading.timestamps.told_whole):
            return await self._recorded(done)
        for _ in range(TRIES):
            known = await self._known((done.user_id, done.org_code, done.week))
            if known is None or known.consent_tx_id != done.consent_tx_id:
                return False
            if known.recorded or await self._told(done, reading, known):
                return True
        raise EngineUnavailable("PostgreSQL")  # as good as away: somebody writes without end

    async def _told(self, done: Done, reading: Reading, known: Known) -> bool:
        """Records what is new, and tells it. False: what is stored is not what was `known` any more."""
        now = self._clock.now()
        changed = news(reading.assets, known.assets, reading.timestamps.told_whole, now)
        if not changed:
            return await self._recorded(done)
        events = [fact.event() for fact in refreshed(done.org_code, changed, now)]
        entries = await self._database.single(
            lambda connection: batch_sends.record_news(connection, done, since=known.offset, changed=changed, events=events, now=now)
        )
        if entries:
            await self._relay.push(done.user_id, entries)
        return bool(entries)

    async def _record_each(self, done: Sequence[Done]) -> list[bool]:
        now = self._clock.now()
        recorded = await self._database.single(lambda connection: batch_sends.record(connection, done, now))
        return [(each.user_id, each.org_code) in recorded for each in done]

    async def _known_each(self, links: Sequence[tuple[str, str, date]]) -> list[Known | None]:
        async with self._database.reading() as connection:
            return await batch_sends.known(connection, links)

    # What was not.

    async def _fail(self, attempt: Attempt, exc: ProviderError, held: Held | None) -> Came:
        log.info("scheduled.failed", org_code=exc.org_code, trouble=exc.TROUBLE, reason=exc.reason, attempt=attempt.number)
        came = _came(exc, self._clock.now())
        nothing_asked = isinstance(exc, ProviderBusy | ProviderResting) and held is not None and not held.timestamps.heard_any
        await self._end(attempt, came, counted=came.state is State.LEFT or not nothing_asked)
        return came

    async def _end(self, attempt: Attempt, came: Came, *, counted: bool) -> None:
        is_given_up = came.state is State.LEFT or (counted and attempt.number >= self._terms.attempts)
        ended = Ended(
            user_id=attempt.user_id,
            org_code=attempt.run.org_code,
            week=attempt.week,
            minute=attempt.run.minute,
            run=attempt.run.run,
            attempt=attempt.number,
            state=came.state,
            error_code=came.error_code,
            counted=counted,
            due_on=self._due_next(attempt) if is_given_up else None,
        )
        await self._again_while_away(partial(self._failed, ended))

    async def _fail_each(self, ended: Sequence[Ended]) -> list[None]:
        now = self._clock.now()

        async def deed(connection: Connection) -> None:
            await batch_sends.fail(connection, ended, now)

        await self._database.single(deed)
        return [None] * len(ended)

    # Both.

    def _due_next(self, attempt: Attempt) -> date:
        return due_next(attempt.week, in_korea(self._clock.now()), self._terms.max_age_days)

    async def _again_while_away(self, write: Callable[[], Awaitable[bool | None]]) -> bool | None:
        """A provider was asked for this: it is not thrown away because PostgreSQL starts anew."""
        until = self._clock.monotonic() + WAITED_FOR
        while True:
            try:
                return await write()
            except EngineUnavailable:
                if self._clock.monotonic() >= until:
                    raise
            await asyncio.sleep(AGAIN_AFTER)


def _came(exc: ProviderError, now: datetime) -> Came:
    """What a failure means for the link and for its provider. RULE.

    42901 is said of the week's quota (standard, section 7), and by some of too many calls a second: then they say until when. Who says
    "for longer than half an hour" of one link means its quota, too; should it be meant of all, the batch goes far more slowly on.
    """
    if exc.reason == RspCode.OUT_OF_WINDOW:
        return Came(State.FAILED, OUT_OF_WINDOW)
    if exc.reason == RspCode.QUOTA and exc.retry_at is None:
        return Came(State.LEFT, exc.TROUBLE)
    if isinstance(exc, ProviderBusy):
        wait = 0.0 if exc.retry_at is None else max((exc.retry_at - now).total_seconds(), 0.0)
        if exc.reason == RspCode.QUOTA and wait > LONGEST_PACE:
            return Came(State.LEFT, exc.TROUBLE, 0.0)
        return Came(State.FAILED, exc.TROUBLE, wait)
    return Came(State.FAILED, exc.TROUBLE)
