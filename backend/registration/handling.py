"""A request meets a registration: lock, decide, write, commit, tell. Every change of a registration goes through `handle`.

In: requests of `decisions.py`. Out: the registration after them and the facts, which are on their way to the person's feed.
One transaction holds the state, the facts in the outbox, and whatever the caller writes `beside` (assets, consents, links).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from backend import failpoints
from backend.clock import Clock
from backend.events import Fact
from backend.failpoints import Failpoint
from backend.registration.decisions import Request, decide
from backend.registration.model import Registration, evolve
from backend.registration.rows import changed_rows, restored
from backend.storage import registrations, users
from backend.storage.database import Database
from backend.storage.outbox import Entry, Relay, publish

Beside = Callable[[AsyncConnection], Awaitable[None]]


class Handled(Struct, frozen=True):
    """What became of requests. No facts: they came too late to change anything."""

    registration: Registration | None  # None: this user has no such registration
    facts: tuple[Fact, ...] = ()
    entries: tuple[Entry, ...] = ()  # the facts as the feed carries them


class Handling:
    """Carries out what `decide` decides. One per process, made in `services.py`."""

    def __init__(self, *, database: Database, relay: Relay, clock: Clock) -> None:
        self._database = database
        self._relay = relay
        self._clock = clock

    async def handle(self, user_id: str, registration_id: str, *requests: Request, beside: Beside | None = None) -> Handled:
        """Decides and commits, then hands the facts to the feed. `beside` runs in the same transaction, only if there are facts."""
        handled = await self.commit(user_id, registration_id, *requests, beside=beside)
        if handled.entries:
            failpoints.reached(Failpoint.HANDLE_COMMITTED)
            await self._relay.push(user_id, handled.entries)
        return handled

    async def commit(self, user_id: str, registration_id: str, *requests: Request, beside: Beside | None = None) -> Handled:
        """Like `handle`, but leaves the hand-over to the caller."""

        async def deed(connection: AsyncConnection) -> Handled:
            if await users.lock(connection, user_id) is None:
                return Handled(None)
            before = await load(connection, user_id, registration_id)
            if before is None:
                return Handled(None)
            return await self._change(connection, before, requests, beside)

        return await self._database.transaction(deed)

    async def _change(
        self, connection: AsyncConnection, before: Registration, requests: Sequence[Request], beside: Beside | None
    ) -> Handled:
        now = self._clock.now()
        after, facts = before, list[Fact]()
        for request in requests:
            decided = decide(after, request, now)
            after = evolve(after, decided)
            facts += decided
        if not facts:
            return Handled(before)
        columns, items = changed_rows(before, after, now)
        if columns:
            await registrations.change(connection, before.user_id, before.id, columns)
        await registrations.change_items(connection, before.user_id, before.id, items)
        if beside is not None:
            await beside(connection)
        entries = await publish(connection, before.user_id, [fact.event() for fact in facts], now)
        return Handled(after, tuple(facts), tuple(entries))

    async def find(self, user_id: str, registration_id: str) -> Registration | None:
        """The registration as it is now; None: this user has none of this id."""
        async with self._database.reading() as connection:
            return await load(connection, user_id, registration_id)


async def load(connection: AsyncConnection, user_id: str, registration_id: str) -> Registration | None:
    """The registration on this connection; None: this user has none of this id."""
    rows = await registrations.load(connection, user_id, registration_id)
    return restored(*rows) if rows else None
