"""A request meets a registration: read, decide, commit, tell. Every change of a registration goes through `handle`.

In: requests of `decisions.py`. Out: the registration after them and the facts, which are on their way to the person's feed.
One statement holds the state, the facts in the outbox, and what the caller wants written with them (assets, links). It is decided on the
registration as this process last knew it, and refused by PostgreSQL when anything of the user was told since: then under the user's lock.
Requests that come while one statement of the same registration is under way go into the next one together: ten providers answer at
about the same time, and each commit alone would wait for all the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog
from msgspec import Struct

from backend import failpoints
from backend.clock import Clock
from backend.events import (
    Fact,
    ProviderDeferred,
    RegistrationCompleted,
    RegistrationRetried,
    SignatureCompleted,
    SignatureDenied,
    SignatureExpired,
    SignatureRequested,
)
from backend.failpoints import Failpoint
from backend.metrics import Metrics
from backend.registration.decisions import Request, decide
from backend.registration.measuring import measure
from backend.registration.model import Registration, evolve
from backend.registration.rows import changed_rows, restored
from backend.storage import registrations, users
from backend.storage.changes import Change, Writes, commit
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay
from backend.storage.statements import Connection

MOST_KNOWN = 1000  # registrations that a process remembers between two changes

Name = tuple[str, str]  # user id, registration id
Wanted = Callable[[Registration], bool]

log = structlog.get_logger()


class Handled(Struct, frozen=True):
    """What became of requests. No facts: they came too late to change anything."""

    registration: Registration | None  # None: this user has no such registration
    facts: tuple[Fact, ...] = ()
    entries: tuple[Entry, ...] = ()  # the facts as the feed carries them


class _Turn:
    """One caller's requests, waiting for the statement that takes them along."""

    __slots__ = ("done", "requests", "wanted", "writes")

    def __init__(self, requests: Sequence[Request], writes: Writes | None, wanted: Wanted | None) -> None:
        self.requests = requests
        self.writes = writes
        self.wanted = wanted
        self.done: asyncio.Future[Handled] = asyncio.get_running_loop().create_future()

    def decide(self, registration: Registration, now: datetime) -> tuple[Registration, tuple[Fact, ...]]:
        """The registration after this turn, and what happened in it."""
        facts: list[Fact] = []
        for request in self.requests:
            decided = decide(registration, request, now)
            registration = evolve(registration, decided)
            facts += decided
        return registration, tuple(facts)

    def written(self, after: Registration, facts: Sequence[Fact]) -> Writes:
        """What goes with it: nothing, if the requests came too late, or nobody wants it of the registration as it is."""
        in_time = bool(facts) or not self.requests
        return self.writes if self.writes is not None and in_time and (self.wanted is None or self.wanted(after)) else Writes()


class _Known(Struct, frozen=True):
    """A registration as it was at an offset of its user's feed. Every change tells something, so the offset is its version."""

    offset: int
    registration: Registration


class _Decided(Struct, frozen=True):
    """What several turns amount to."""

    change: Change
    after: Registration
    turns: Sequence[tuple[Registration, tuple[Fact, ...]]]  # what each comes to

    @property
    def is_empty(self) -> bool:
        return not self.change.events and self.change.writes == Writes()

    def handled(self, entries: Sequence[Entry]) -> list[Handled]:
        told = iter(entries)
        return [Handled(state, facts, tuple(next(told) for _ in facts)) for state, facts in self.turns]


class Handling:
    """Carries out what `decide` decides. One per process, made in `services.py`."""

    def __init__(self, *, database: Database, relay: Relay, clock: Clock, metrics: Metrics | None = None) -> None:
        """`metrics` None: nobody looks."""
        self._metrics = metrics or Metrics()
        self._database = database
        self._relay = relay
        self._clock = clock
        self._waiting: dict[Name, list[_Turn]] = {}  # a key is there while its statements are under way
        self._known: dict[Name, _Known] = {}  # what the last change left; whoever decides on it takes it out
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(
        self, user_id: str, registration_id: str, *requests: Request, writes: Writes | None = None, wanted: Wanted | None = None
    ) -> Handled:
        """Decides and commits; the facts are on their way to the feed then.

        `writes` go into the same statement, unless the requests came too late, or `wanted` says no of the registration that is returned.
        """
        turn = _Turn(requests, writes, wanted)
        name = (user_id, registration_id)
        if name in self._waiting:
            self._waiting[name].append(turn)
        else:
            self._waiting[name] = [turn]
            task = asyncio.create_task(self._work_off(name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        handled = await turn.done
        _log(handled)
        if handled.registration is not None:
            measure(self._metrics, handled.registration, handled.facts)
        return handled

    async def find(self, user_id: str, registration_id: str) -> Registration | None:
        """The registration as it is now; None: this user has none of this id."""
        async with self._database.reading() as connection:
            known = await _read(connection, (user_id, registration_id))
        return known.registration if known else None

    def knows(self, registration: Registration, offset: int) -> None:
        """The registration as it was just read, at this offset of its user's feed: the next change is decided on it."""
        self._keep((registration.user_id, registration.id), _Known(offset, registration))

    async def finish(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work_off(self, name: Name) -> None:
        """Takes along whoever waits, until nobody does. The next statement runs while the facts of the last one are told."""
        telling: asyncio.Task[None] | None = None
        try:
            while (turns := self._taken(name)) or telling is not None:
                entries = await self._handled(name, turns) if turns else ()
                if telling is not None:
                    await telling  # the feed takes facts in their order only
                telling = asyncio.create_task(self._tell(name[0], entries)) if entries else None
        finally:
            for turn in self._waiting.pop(name):  # only if this was cancelled, or telling met a fault of ours
                turn.done.cancel()

    def _taken(self, name: Name) -> list[_Turn]:
        """Who waits, and has not been cancelled meanwhile."""
        turns = [turn for turn in self._waiting[name] if not turn.done.done()]
        self._waiting[name] = []
        return turns

    async def _tell(self, user_id: str, entries: Sequence[Entry]) -> None:
        failpoints.reached(Failpoint.HANDLE_COMMITTED)
        await self._relay.push(user_id, entries)

    async def _handled(self, name: Name, turns: Sequence[_Turn]) -> Sequence[Entry]:
        """Gives every turn its answer. What fails for several turns is repeated for each alone: one must not hurt another."""
        try:
            handled = await self._changed(name, turns)
        except Exception as exc:
            if len(turns) > 1:
                return [entry for turn in turns for entry in await self._handled(name, [turn])]
            if not turns[0].done.done():
                turns[0].done.set_exception(exc)
            return []
        for turn, one in zip(turns, handled, strict=True):
            if not turn.done.done():
                turn.done.set_result(one)
        return [entry for one in handled for entry in one.entries]

    async def _changed(self, name: Name, turns: Sequence[_Turn]) -> list[Handled]:
        """All turns in their order: on what we know, else on what there is now, else under the user's lock, where nobody overtakes."""
        handled = await self._attempt(name, turns, self._known.pop(name, None))
        if handled is None:
            async with self._database.reading() as connection:
                read = await _read(connection, name)
            handled = await self._attempt(name, turns, read, fresh=True) if read else [Handled(None)] * len(turns)
        if handled is None:
            handled = await self._database.transaction(lambda connection: self._locked(connection, name, turns))
        return handled

    async def _locked(self, connection: Connection, name: Name, turns: Sequence[_Turn]) -> list[Handled]:
        await users.lock(connection, name[0])
        known = await _read(connection, name)
        if known is None:
            return [Handled(None)] * len(turns)
        decided = _decided(name, known, turns, self._clock.now())
        entries = () if decided.is_empty else await commit(connection, decided.change, self._clock.now())
        if entries is None:
            raise AssertionError("overtaken under the lock")
        return decided.handled(entries)

    async def _attempt(self, name: Name, turns: Sequence[_Turn], known: _Known | None, *, fresh: bool = False) -> list[Handled] | None:
        """One statement. None: nothing is known, or it was overtaken; that there is nothing to do is believed of fresh knowledge only."""
        if known is None:
            return None
        now = self._clock.now()
        decided = _decided(name, known, turns, now)
        if decided.is_empty:
            return decided.handled(()) if fresh else None
        entries = await self._database.single(lambda connection: commit(connection, decided.change, now))
        if entries is None:
            return None
        self._remember(name, decided, known.offset + len(entries))
        return decided.handled(entries)

    def _remember(self, name: Name, decided: _Decided, offset: int) -> None:
        """Unless it has ended, or columns were written that the state does not show."""
        if decided.after.completed_as is None and not decided.change.writes.registration:
            self._keep(name, _Known(offset, decided.after))

    def _keep(self, name: Name, known: _Known) -> None:
        self._known[name] = known
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]


def _decided(name: Name, known: _Known, turns: Sequence[_Turn], now: datetime) -> _Decided:
    """What all turns amount to, in their order."""
    after, writes, comes_to = known.registration, Writes(), list[tuple[Registration, tuple[Fact, ...]]]()
    for turn in turns:
        after, facts = turn.decide(after, now)
        comes_to.append((after, facts))
        writes += turn.written(after, facts)
    state, items = changed_rows(known.registration, after)
    events = [fact.event() for _, facts in comes_to for fact in facts]
    change = Change(user_id=name[0], registration_id=name[1], since=known.offset, state=state, items=items, writes=writes, events=events)
    return _Decided(change, after, comes_to)


def _log(handled: Handled) -> None:
    """The stages of a registration, in the caller's own context; what single providers do is told where they are called."""
    for fact in handled.facts:
        match fact:
            case RegistrationCompleted() if handled.registration is not None:
                items = handled.registration.items
                log.info(
                    fact.TYPE,
                    registration_id=fact.registration_id,
                    status=fact.status,
                    providers=Counter(item.status.value for item in items),
                    assets=sum(len(item.asset_ids) for item in items),
                    seconds=round((fact.at - handled.registration.created_at).total_seconds(), 3),
                )
            case SignatureRequested() | SignatureCompleted() | SignatureDenied() | SignatureExpired() | RegistrationRetried():
                log.info(fact.TYPE, registration_id=fact.registration_id)
            case ProviderDeferred(org_code=org_code, reason=reason):
                log.info(fact.TYPE, registration_id=fact.registration_id, org_code=org_code, reason=reason)


async def _read(connection: Connection, name: Name) -> _Known | None:
    row = await registrations.load(connection, *name)
    return _Known(row["feed_offset"], restored(row)) if row else None


async def load(connection: Connection, user_id: str, registration_id: str) -> Registration | None:
    """The registration on this connection; None: this user has none of this id."""
    row = await registrations.load(connection, user_id, registration_id)
    return restored(row) if row else None
