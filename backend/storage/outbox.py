"""The outbox and its relay: facts leave PostgreSQL for the feeds, in order, and none is lost or doubled.

In: events numbered by `publish` inside the transaction that made them. Out: appends to each user's feed, then the rows go.
Any number of relays may race: the feed accepts offset n+1 only after n and ignores what it has, so order needs no lock here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from backend.errors import EngineUnavailable
from backend.events import Appended, Event, Gap, Position
from backend.metrics import Metric, Sample, Samples
from backend.storage.database import Database
from backend.storage.statements import Connection, Statement, Values, statement

Entry = tuple[int, bytes]  # offset in the user's feed, EVENT

SWEPT_AFTER = timedelta(seconds=1)  # a row that lies so long was left behind by whoever wrote it
_BATCH = 500
_USERS = 200
_FLUSH_SECONDS = 0.1
MOST_COUNTED = 10_000  # events of the outbox; how many more there are changes nothing

log = structlog.get_logger()


class FeedLog(Protocol):
    """Where events go."""

    async def append(self, user_id: str, entries: Sequence[Entry], *, rebase: bool = False) -> Appended | Gap: ...

    async def glance(self, user_ids: Sequence[str]) -> list[Position | None]: ...

    async def erase(self, user_id: str) -> None: ...


# Facts that are `numbered` (by whoever adds their count to the user's offset) are written, and a delivery for each webhook that wants one.
# Without webhooks that first part reads an empty table (8 of 56 us); with them it adds rows and waits for nobody.
_TOLD = """
    deliveries AS (
      INSERT INTO webhook_deliveries (user_id, webhook_id, "offset", id, event, due_at, created_at)
      SELECT :user_id, webhooks.id, numbered.before + row.place, gen_random_uuid(), row.event, :now, :now
      FROM webhooks, numbered, unnest(CAST(:events AS bytea[]), CAST(:types AS text[])) WITH ORDINALITY AS row(event, type, place)
      WHERE webhooks.status = 'active' AND (webhooks.events IS NULL OR row.type = ANY(webhooks.events)))
    INSERT INTO outbox (user_id, "offset", event, created_at)
    SELECT :user_id, numbered.before + row.place, row.event, :now
    FROM numbered, unnest(CAST(:events AS bytea[])) WITH ORDINALITY AS row(event, place)
    RETURNING "offset"
"""
# The usual first step: whoever runs it changes the user in the order of their lock.
NUMBERED = """numbered AS (
    UPDATE users SET feed_offset = feed_offset + :count WHERE user_id = :user_id RETURNING feed_offset - :count AS before)"""


def publishing(*steps: str) -> Statement:
    """A statement for `published`: common table expressions, of which one is `numbered`, and then the facts."""
    return statement(f"WITH {', '.join((*steps, _TOLD))}")


_PUBLISH = publishing(NUMBERED)
# Of a feed that is no user's; no webhook hears it.
_PUBLISH_SHARED = statement(
    """
    WITH numbered AS (
      INSERT INTO shared_feeds AS known (name, feed_offset) VALUES (:name, :count)
      ON CONFLICT (name) DO UPDATE SET feed_offset = known.feed_offset + :count RETURNING feed_offset - :count AS before)
    INSERT INTO outbox (user_id, "offset", event, created_at)
    SELECT :name, numbered.before + row.place, row.event, :now
    FROM numbered, unnest(CAST(:events AS bytea[])) WITH ORDINALITY AS row(event, place)
    RETURNING "offset"
    """
)
_WAITING = statement('SELECT "offset", event FROM outbox WHERE user_id = :user_id AND "offset" > :after ORDER BY "offset" LIMIT :limit')
# Of the oldest rows only: after a long absence of Valkey there are very many, and this is asked each second.
_LEFT_BEHIND = statement(
    """
    SELECT user_id FROM (SELECT user_id, created_at FROM outbox WHERE created_at < :before ORDER BY created_at LIMIT 10000) AS oldest
    GROUP BY user_id ORDER BY min(created_at) LIMIT :limit
    """
)
_DELETE = statement(
    """
    DELETE FROM outbox USING unnest(CAST(:users AS text[]), CAST(:offsets AS bigint[])) AS done(user_id, top)
    WHERE outbox.user_id = done.user_id AND outbox."offset" <= done.top
    """
)
_BACKLOG = statement(
    """
    SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox LIMIT :most) AS waiting) AS events, (SELECT min(created_at) FROM outbox) AS oldest
    """
)
_GONE = statement(
    """
    SELECT name FROM unnest(CAST(:users AS text[])) AS told(name)
    WHERE NOT EXISTS (SELECT FROM users WHERE user_id = told.name) AND NOT EXISTS (SELECT FROM shared_feeds AS s WHERE s.name = told.name)
    """
)
_NEED_NOT_LAST = statement("SET LOCAL synchronous_commit = off")
_RELAYED = statement(
    """
    SELECT coalesce((SELECT min("offset") - 1 FROM outbox WHERE user_id = :user_id),
                    (SELECT feed_offset FROM users WHERE user_id = :user_id),
                    (SELECT feed_offset FROM shared_feeds WHERE name = :user_id), 0)
    """
)


async def publish(connection: Connection, user_id: str, events: Sequence[Event], now: datetime) -> list[Entry]:
    """Numbers the events and writes them, and what webhooks are to get of them, in the caller's transaction.

    The user's row stays locked until its commit.
    """
    return await published(_PUBLISH, connection, user_id, events, now)


async def published(  # the statement's own values last
    by: Statement, connection: Connection, user_id: str, events: Sequence[Event], now: datetime, values: Values | None = None
) -> list[Entry]:
    """Runs a statement of `publishing` with these facts and its own values. Nothing: it had nothing `numbered`."""
    encoded = [event.encode() for event in events]
    types = [event.type.value for event in events]
    told = {"user_id": user_id, "count": len(encoded), "events": encoded, "types": types, "now": now}
    offsets = sorted(await by.column(connection, {**told, **(values or {})}))
    return list(zip(offsets, encoded, strict=True)) if offsets else []


async def publish_shared(connection: Connection, name: str, events: Sequence[Event], now: datetime) -> list[Entry]:
    """The same for a feed that everybody with its scope hears; `name` is nobody's `sub`. Its row stays locked until the commit."""
    encoded = [event.encode() for event in events]
    offsets = await _PUBLISH_SHARED.column(connection, {"name": name, "count": len(encoded), "events": encoded, "now": now})
    return list(zip(sorted(offsets), encoded, strict=True))


async def relayed(database: Database, user_id: str) -> int:
    """Up to which offset nothing waits: where a feed that Valkey does not know begins. 0 for an unknown user."""
    async with database.reading() as connection:
        return int(await _RELAYED.value(connection, {"user_id": user_id}))


class Relay:
    """Hands events over to the feeds. `push` right after a commit, `sweep` each second for what was left behind."""

    def __init__(self, *, database: Database, feed: FeedLog, published: asyncio.Event | None = None) -> None:
        """`published` is set after each commit that this process tells us of."""
        self._database = database
        self._feed = feed
        self._published = published
        self._done: dict[str, int] = {}  # user -> highest offset that the feed has; bounded by the users of one flush
        self._flushing: asyncio.Task[None] | None = None
        self._alone = asyncio.Lock()
        self.appended = 0  # events that feeds took from this process
        self.gaps = 0  # times that one missed what lay before

    async def push(self, user_id: str, entries: Sequence[Entry]) -> None:
        """Appends what was just committed. Never raises: what does not succeed now stays in the outbox for the sweep."""
        if not entries:
            return
        if self._published is not None:
            self._published.set()
        try:
            match await self._feed.append(user_id, entries):
                case Appended():
                    self.appended += len(entries)
                    self._delete_soon(user_id, entries[-1][0])
                case Gap():  # what lies before was committed, and not relayed yet
                    self.gaps += 1
                    await self._catch_up(user_id)
        except EngineUnavailable as exc:
            log.info("relay.postponed", engine=exc.engine, events=len(entries))

    async def sweep(self, now: datetime) -> int:
        """Relays what lies for longer than `SWEPT_AFTER`; returns for how many users."""
        async with self._database.reading() as connection:
            values = {"before": now - SWEPT_AFTER, "limit": _USERS}
            users = await _LEFT_BEHIND.column(connection, values)
        for user_id in users:
            await self._catch_up(user_id)
        return len(users)

    async def _catch_up(self, user_id: str) -> None:
        """Sends everything of this user that the outbox holds, in order.

        Rows leave the outbox only after the feed took them. So when the feed misses what lies before the lowest row,
        Valkey lost its tail: the feed starts anew from here, and its readers are told.
        """
        after = 0
        while entries := await self._waiting(user_id, after):
            if isinstance(await self._feed.append(user_id, entries), Gap):
                await self._feed.append(user_id, entries, rebase=True)
            self.appended += len(entries)
            after = entries[-1][0]
            self._delete_soon(user_id, after)

    async def _waiting(self, user_id: str, after: int) -> list[Entry]:
        async with self._database.reading() as connection:
            rows = await _WAITING.rows(connection, {"user_id": user_id, "after": after, "limit": _BATCH})
            return [(row["offset"], row["event"]) for row in rows]

    def _delete_soon(self, user_id: str, offset: int) -> None:
        self._done[user_id] = max(offset, self._done.get(user_id, 0))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(_FLUSH_SECONDS)
        try:
            await self.flush()
        except EngineUnavailable as exc:
            log.info("outbox.flush_postponed", engine=exc.engine)

    async def flush(self) -> None:
        """Deletes what the feeds have. A lost delete costs a repeated append, which the feed ignores, so it need not be durable.

        What a feed no longer has, since Valkey was wiped after the append, stays for the sweep: a reader may have opened the new one since.
        A user who was erased while their facts were on their way is erased once more.
        Returns when a flush that was under way has ended, too.
        """
        async with self._alone:
            await self._flush()

    async def _flush(self) -> None:
        appended, self._done = self._done, {}
        if not appended:
            return
        tops = await self._feed.glance(list(appended))
        done = {
            user: offset for (user, offset), top in zip(appended.items(), tops, strict=True) if top is not None and top.offset >= offset
        }
        if not done:
            return

        async def delete(connection: Connection) -> Sequence[str]:
            await _NEED_NOT_LAST.run(connection)
            await _DELETE.run(connection, {"users": list(done), "offsets": list(done.values())})
            return await _GONE.column(connection, {"users": list(done)})

        for user_id in await self._database.transaction(delete):
            await self._feed.erase(user_id)

    def measured(self) -> Samples:
        """Of this process."""
        yield Sample(Metric.FEED_APPENDED, (), self.appended)
        yield Sample(Metric.FEED_GAPS, (), self.gaps)

    async def waiting(self, now: datetime) -> Samples:
        """Of the whole outbox. Raises `EngineUnavailable`."""
        async with self._database.reading() as connection:
            [row] = await _BACKLOG.rows(connection, {"most": MOST_COUNTED})
        oldest = max((now - row["oldest"]).total_seconds(), 0.0) if row["oldest"] else 0.0
        return [Sample(Metric.OUTBOX, (), row["events"]), Sample(Metric.OUTBOX_OLDEST, (), oldest)]

    async def close(self) -> None:
        """Flushes a last time."""
        if self._flushing is not None:
            self._flushing.cancel()
        try:
            await self.flush()
        except EngineUnavailable as exc:
            log.info("outbox.flush_postponed", engine=exc.engine)
