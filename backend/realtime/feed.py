"""The feed: each user's last events under one numbering, readable from any position that is still there.

In: entries that PostgreSQL has numbered (see docs/decisions/0002-feed-offsets.md). Out: positions, slices, and a live message per append.
At most 1,000 events and 24 hours are kept; what is gone is said to be gone (`recovered` False), never skipped.
Nothing here parses an event. `MemoryFeed` is the twin for tests and sits the same exam.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from msgspec import Struct
from redis.asyncio import Redis

from backend.events import Appended, Gap, Position
from backend.jobs.valkey import engine_errors
from backend.realtime.merging import Batch, Entry, encode, numbered

MOST_EVENTS = 1000
SLICE_BYTES = 256 * 1024  # of one reading; a longer event comes alone
LIFE_SECONDS = 24 * 3600.0  # of an event
HEAD_LIVES = 2  # the numbers outlive the events, so that a quiet day is no new epoch

OPERATORS = "operators".ljust(256, ".")  # the feed of `/ops/events`: a `sub` has at most 255 bytes, so no user's feed is this one

_ENTRIES_AT_ONCE = 200  # in one script: Valkey serves nobody else meanwhile
_POSITIONS_AT_ONCE = 500
_HIGHEST_OFFSET = 2**53  # beyond it, Lua's numbers are not exact; nobody has so many events

Relayed: TypeAlias = Callable[[str], Awaitable[int]]  # user_id -> offset up to which nothing waits in PostgreSQL; 0: unknown user


class Slice(Struct, frozen=True):
    """Part of a log: `entries` are what follows the position asked from, `position` is after them."""

    position: Position
    recovered: bool  # False: what was asked for is gone, and `position` is the newest
    entries: tuple[Entry, ...] = ()
    more: bool = False  # whether the log goes on after them


class FeedReader(Protocol):
    """What the transports need of a feed."""

    async def position(self, user_id: str) -> Position: ...

    async def read(self, user_id: str, since: Position | None, limit: int = MOST_EVENTS) -> Slice: ...

    async def glance(self, user_ids: Sequence[str], *, keep: bool = False) -> list[Position | None]: ...


def channel(user_id: str) -> str:
    """Where a user's appends are announced. Any `sub` is safe in it; the braces keep a user's keys together in a cluster."""
    return f"moa:feed:v1:{{{_name(user_id)}}}:live"


def _head(user_id: str) -> str:
    """Hash: epoch, top (highest offset), run (of the server that last vouched for them)."""
    return f"moa:feed:v1:{{{_name(user_id)}}}:head"


def _log(user_id: str) -> str:
    """Stream: the offset is the id; t: Unix ms, e: the event."""
    return f"moa:feed:v1:{{{_name(user_id)}}}:log"


def _name(user_id: str) -> str:
    return urlsafe_b64encode(user_id.encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


def fresh_epoch() -> str:
    """A name that no feed had before. It has no colon, since positions are written `epoch:offset`."""
    return secrets.token_urlsafe(9)


def _checked(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Events are lines in live messages and in frames."""
    if any(b"\n" in event for _, event in entries):
        raise ValueError("an event must be one line")
    return entries


class Feed:
    """The feeds in Valkey. Every change is one script, so that any number of relays and readers may race."""

    def __init__(self, *, redis: Redis, relayed: Relayed, life: float = LIFE_SECONDS) -> None:
        self._redis = redis
        self._relayed = relayed
        self._life_ms = int(life * 1000)
        self._head_ms = self._life_ms * HEAD_LIVES
        self._append, self._read, self._erase = (redis.register_script(_lua(name)) for name in ("append", "read", "erase"))

    async def position(self, user_id: str) -> Position:
        """The newest position; opens the feed when Valkey does not know it. Raises `EngineUnavailable`."""
        return (await self.read(user_id, None)).position

    async def append(self, user_id: str, entries: Sequence[Entry], *, rebase: bool = False) -> Appended | Gap:
        """Adds what the feed does not have yet; an offset that it has is ignored.

        `Gap`: the entries before the hole were added. With `rebase`, a hole starts the feed anew under another epoch instead: for a
        caller who knows that nobody has the missing ones any more. Raises `EngineUnavailable`; appending again is right then.
        """
        if not entries:
            return Appended(await self.position(user_id))
        fresh = fresh_epoch()
        for start in range(0, len(entries), _ENTRIES_AT_ONCE):
            part = _checked(entries[start : start + _ENTRIES_AT_ONCE])
            arguments: list[Any] = [channel(user_id), MOST_EVENTS, self._life_ms, self._head_ms, fresh, "1" if rebase else ""]
            for entry in part:
                arguments += entry
            with engine_errors():
                whole, epoch, top = await self._append(self._keys(user_id), arguments)
            if not whole:
                return Gap(top)
        return Appended(Position(epoch.decode(), top))

    async def read(self, user_id: str, since: Position | None, limit: int = MOST_EVENTS) -> Slice:
        """At most `limit` entries of `SLICE_BYTES` after `since`; None: none, only the newest position. Raises `EngineUnavailable`."""
        answer = await self._ask(user_id, since, limit, "")
        if not answer:
            answer = await self._ask(user_id, since, limit, await self._relayed(user_id))
        epoch, top, recovered, *events = answer
        newest = Position(epoch.decode(), top)
        if since is None:
            return Slice(newest, True)
        if not recovered:
            return Slice(newest, False)
        return _slice(since, events, newest)

    async def _ask(self, user_id: str, since: Position | None, limit: int, floor: int | str) -> list[Any]:
        asked = ("", 0) if since is None else (since.epoch or "_", min(since.offset, _HIGHEST_OFFSET))
        arguments = [channel(user_id), self._head_ms, fresh_epoch(), floor, *asked, limit, SLICE_BYTES]
        with engine_errors():
            answer: list[Any] = await self._read(self._keys(user_id), arguments)
        return answer

    async def glance(self, user_ids: Sequence[str], *, keep: bool = False) -> list[Position | None]:
        """The newest positions, opening nothing; None: Valkey does not know that feed. Raises `EngineUnavailable`.

        With `keep`, the numbers of these feeds live on, however quiet they are: somebody listens.
        """
        found: list[Position | None] = []
        for start in range(0, len(user_ids), _POSITIONS_AT_ONCE):
            part = user_ids[start : start + _POSITIONS_AT_ONCE]
            pipeline = self._redis.pipeline(transaction=False)
            for user_id in part:
                pipeline.hmget(_head(user_id), ["epoch", "top"])
            for user_id in part if keep else ():
                pipeline.pexpire(_head(user_id), self._head_ms)
            with engine_errors():
                answers = await pipeline.execute()
            found += [Position(epoch.decode(), int(top)) if epoch else None for epoch, top in answers[: len(part)]]
        return found

    async def erase(self, user_id: str) -> None:
        """Forgets every event; readers are told by another epoch. Raises `EngineUnavailable`."""
        with engine_errors():
            await self._erase(self._keys(user_id), [channel(user_id), self._head_ms, fresh_epoch()])

    def _keys(self, user_id: str) -> list[str]:
        return [_head(user_id), _log(user_id)]


def _slice(since: Position, events: Sequence[bytes], newest: Position) -> Slice:
    """These events follow `since`, in a log that ends at `newest`."""
    after = Position(newest.epoch, since.offset + len(events))
    return Slice(after, True, numbered(since.offset + 1, events), more=after.offset < newest.offset)


def _lua(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()


class _Log:
    """One user's log in memory."""

    def __init__(self, top: int) -> None:
        self.epoch = fresh_epoch()
        self.top = top
        self.events: deque[bytes] = deque(maxlen=MOST_EVENTS)

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.top)


class MemoryFeed:
    """The twin: the same answers without a server and without an end of life. `announce` gets what Valkey would publish."""

    def __init__(self, *, relayed: Relayed, announce: Callable[[str, bytes], None] = lambda _channel, _message: None) -> None:
        self._relayed = relayed
        self._announce = announce
        self._logs: dict[str, _Log] = {}

    async def position(self, user_id: str) -> Position:
        """See `Feed.position`."""
        return (await self._open(user_id)).position

    async def append(self, user_id: str, entries: Sequence[Entry], *, rebase: bool = False) -> Appended | Gap:
        """See `Feed.append`."""
        if not entries:
            return Appended(await self.position(user_id))
        log = self._logs.get(user_id)
        first = _checked(entries)[0][0]
        if log is None or (rebase and first > log.top + 1):
            log = self._logs[user_id] = _Log(first - 1)
        added: list[Entry] = []
        for offset, event in entries:
            if offset > log.top + 1:
                break
            if offset == log.top + 1:
                log.events.append(event)
                log.top = offset
                added.append((offset, event))
        if added:
            self._tell(user_id, Batch(log.epoch, added[0][0], tuple(event for _, event in added)))
        return Appended(log.position) if log.top >= entries[-1][0] else Gap(log.top)

    async def read(self, user_id: str, since: Position | None, limit: int = MOST_EVENTS) -> Slice:
        """See `Feed.read`."""
        log = await self._open(user_id)
        if since is None:
            return Slice(log.position, True)
        missing = log.top - since.offset
        if since.epoch != log.epoch or not 0 <= missing <= len(log.events):
            return Slice(log.position, False)
        events = list(log.events)[len(log.events) - missing :][:limit]
        sizes = accumulate(map(len, events))
        fitting = max(1, sum(size <= SLICE_BYTES for size in sizes))
        return _slice(since, events[:fitting], log.position)

    async def glance(self, user_ids: Sequence[str], *, keep: bool = False) -> list[Position | None]:  # noqa: ARG002  # nothing dies here
        """See `Feed.glance`."""
        return [self._logs[user_id].position if user_id in self._logs else None for user_id in user_ids]

    async def erase(self, user_id: str) -> None:
        """See `Feed.erase`."""
        self._logs[user_id] = _Log(0)
        self._tell(user_id, Batch(self._logs[user_id].epoch, 0, ()))

    def forget(self) -> None:
        """What a wiped Valkey knows: nothing."""
        self._logs.clear()

    async def _open(self, user_id: str) -> _Log:
        if user_id not in self._logs:
            floor = await self._relayed(user_id)
            self._logs.setdefault(user_id, _Log(floor))
        return self._logs[user_id]

    def _tell(self, user_id: str, batch: Batch) -> None:
        self._announce(channel(user_id), encode(batch))
