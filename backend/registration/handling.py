"""A request meets a registration: lock, decide, write, commit, tell. Every change of a registration goes through `handle`.

In: requests of `decisions.py`. Out: the registration after them and the facts, which are on their way to the person's feed.
One transaction holds the state, the facts in the outbox, and whatever the caller writes `beside` (assets, links). Requests that come
while one transaction of the same registration is under way in this process go into the next one together: ten providers answer at
about the same time, and each commit alone would wait for all the others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
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
from backend.registration.decisions import Request, decide
from backend.registration.model import Registration, evolve
from backend.registration.rows import changed_rows, restored
from backend.storage import registrations, users
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay, publish
from backend.storage.statements import Connection

Beside = Callable[[Connection], Awaitable[None]]
Name = tuple[str, str]  # user id, registration id

log = structlog.get_logger()


class Handled(Struct, frozen=True):
    """What became of requests. No facts: they came too late to change anything."""

    registration: Registration | None  # None: this user has no such registration
    facts: tuple[Fact, ...] = ()
    entries: tuple[Entry, ...] = ()  # the facts as the feed carries them


class _Turn:
    """One caller's requests, waiting for the transaction that takes them along."""

    __slots__ = ("beside", "done", "requests")

    def __init__(self, requests: Sequence[Request], beside: Beside | None) -> None:
        self.requests = requests
        self.beside = beside
        self.done: asyncio.Future[Handled] = asyncio.get_running_loop().create_future()

    def decide(self, registration: Registration, now: datetime) -> tuple[Registration, tuple[Fact, ...]]:
        """The registration after this turn, and what happened in it."""
        facts: list[Fact] = []
        for request in self.requests:
            decided = decide(registration, request, now)
            registration = evolve(registration, decided)
            facts += decided
        return registration, tuple(facts)


class Handling:
    """Carries out what `decide` decides. One per process, made in `services.py`."""

    def __init__(self, *, database: Database, relay: Relay, clock: Clock) -> None:
        self._database = database
        self._relay = relay
        self._clock = clock
        self._waiting: dict[Name, list[_Turn]] = {}  # a key is there while its transactions are under way
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, user_id: str, registration_id: str, *requests: Request, beside: Beside | None = None) -> Handled:
        """Decides and commits; the facts are on their way to the feed then.

        `beside` runs in the same transaction, unless the requests came too late; without requests it always runs.
        """
        turn = _Turn(requests, beside)
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
        return handled

    async def find(self, user_id: str, registration_id: str) -> Registration | None:
        """The registration as it is now; None: this user has none of this id."""
        async with self._database.reading() as connection:
            return await load(connection, user_id, registration_id)

    async def finish(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work_off(self, name: Name) -> None:
        """Takes along whoever waits, until nobody does. The next transaction runs while the facts of the last one are told."""
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
            handled = await self._database.transaction(lambda connection: self._change(connection, name, turns))
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

    async def _change(self, connection: Connection, name: Name, turns: Sequence[_Turn]) -> list[Handled]:
        """One transaction: all turns in their order."""
        user_id, registration_id = name
        locked = await users.lock(connection, user_id)
        before = await load(connection, user_id, registration_id) if locked is not None else None
        if before is None:
            return [Handled(None)] * len(turns)
        now = self._clock.now()
        after, decided = before, list[tuple[Registration, tuple[Fact, ...]]]()
        for turn in turns:
            after, facts = turn.decide(after, now)
            decided.append((after, facts))
        if after != before:
            state, items, changed = changed_rows(before, after)
            await registrations.save(connection, state, items, changed=changed, now=now)
        for turn, (_, facts) in zip(turns, decided, strict=True):
            if turn.beside is not None and (facts or not turn.requests):
                await turn.beside(connection)
        events = [fact.event() for _, facts in decided for fact in facts]
        entries = iter(await publish(connection, user_id, events, now) if events else ())
        return [Handled(state, facts, tuple(next(entries) for _ in facts)) for state, facts in decided]


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


async def load(connection: Connection, user_id: str, registration_id: str) -> Registration | None:
    """The registration on this connection; None: this user has none of this id."""
    row = await registrations.load(connection, user_id, registration_id)
    return restored(row) if row else None
