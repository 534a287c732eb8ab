"""What waits to be written to one client: bounded, in order, and taken all at once.

In: frames that answer the client, and entries of its feed. Out: everything that waits, in one piece, so that many results cost one write.
A client that reads too slowly is told so and closed; what it missed is in the log. Nothing is ever dropped silently.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct

from backend.realtime.merging import Entry
from backend.realtime.protocol import CloseCode

MOST_ITEMS = 2000  # twice the log: only a client that does not read gets there
MOST_BYTES = 1024 * 1024


class Lost(Struct, frozen=True):
    """Events are gone that this client has not had. It hears nothing more until it attaches again."""


LOST = Lost()
Item: TypeAlias = bytes | Entry | Lost  # a frame as it is, an event, the end of the subscription


class Mailbox:
    """One client's. Fill it from anywhere in the loop; one reader waits and takes."""

    __slots__ = ("_bytes", "_emptied", "_items", "_on_close", "_waiter", "closing")

    def __init__(self, on_close: Callable[[], None] = lambda: None) -> None:
        self._items: list[Item] = []
        self._bytes = 0
        self._on_close = on_close
        self._waiter: asyncio.Future[None] | None = None
        self._emptied = asyncio.Event()
        self._emptied.set()
        self.closing: CloseCode | None = None  # None: open

    def put(self, frame: bytes) -> None:
        """Adds a frame that answers the client."""
        self._add((frame,), len(frame))

    def put_entries(self, entries: Iterable[Entry]) -> None:
        """Adds events, in order."""
        entries = tuple(entries)
        self._add(entries, sum(len(event) for _, event in entries))

    def put_lost(self) -> None:
        """Says that the subscription is over."""
        self._add((LOST,), 0)

    def drop_events(self) -> None:
        """The client does not want to hear any more; answers stay."""
        self._items = [item for item in self._items if isinstance(item, bytes)]
        self._bytes = sum(len(item) for item in self._items if isinstance(item, bytes))
        self._emptied.set()

    def close(self, code: CloseCode) -> None:
        """Ends it; what waits may still be taken. The first code counts."""
        if self.closing is not None:
            return
        self.closing = code
        self._wake()
        self._on_close()

    def take(self) -> list[Item]:
        """Everything that waits."""
        items, self._items, self._bytes = self._items, [], 0
        self._emptied.set()
        return items

    async def wait(self) -> None:
        """Until there is something to take, or it is closed."""
        if not self._items and self.closing is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    async def taken(self) -> None:
        """Until nothing waits here: the client is ready for more."""
        await self._emptied.wait()

    def _add(self, items: Iterable[Item], size: int) -> None:
        if self.closing is not None:
            return
        behind = bool(self._items)
        self._items += items
        self._bytes += size
        if self._items:
            self._emptied.clear()
        # To a client that has taken everything, a whole slice of the log may be handed at once.
        if behind and (len(self._items) > MOST_ITEMS or self._bytes > MOST_BYTES):
            self.take()
            self.close(CloseCode.SLOW)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
