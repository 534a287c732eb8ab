"""The one rule about order: what a live batch means for somebody who has heard up to a position.

In: the position, and a batch as it was published. Out: news to pass on, nothing, or the advice to read the log.
A batch never skips: whatever does not follow directly is answered with `ReadLog`. No I/O here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from backend.events import Position

Entry: TypeAlias = tuple[int, bytes]  # offset, EVENT


class Batch(Struct, frozen=True):
    """Consecutive events of one append; none at all: only the epoch is told."""

    epoch: str
    first: int  # offset of the first event
    events: tuple[bytes, ...]


class News(Struct, frozen=True):
    """What was not heard before; `position` is after it."""

    entries: tuple[Entry, ...]
    position: Position


class Nothing(Struct, frozen=True):
    """Everything in the batch was heard before."""


class ReadLog(Struct, frozen=True):
    """Something lies between, or the epoch is another: only the log can tell."""


NOTHING = Nothing()
READ_LOG = ReadLog()


def encode(batch: Batch) -> bytes:
    """The published form: epoch, first offset and the events on lines of their own, as `append.lua` writes it."""
    return b"\n".join((batch.epoch.encode(), str(batch.first).encode(), *batch.events))


def decode(message: bytes) -> Batch | None:
    """None: not one of ours."""
    epoch, _, rest = message.partition(b"\n")
    first, *events = rest.split(b"\n")
    if not first.isdigit() or not epoch.isascii():
        return None
    return Batch(epoch.decode(), int(first), tuple(events))


def following(position: Position, batch: Batch) -> News | Nothing | ReadLog:
    """What `batch` means after `position`."""
    if batch.epoch != position.epoch:
        return READ_LOG
    last = batch.first + len(batch.events) - 1
    if last <= position.offset:
        return NOTHING
    if batch.first > position.offset + 1:
        return READ_LOG
    fresh = batch.events[position.offset + 1 - batch.first :]
    return News(numbered(position.offset + 1, fresh), Position(position.epoch, last))


def numbered(first: int, events: Sequence[bytes]) -> tuple[Entry, ...]:
    """Gives each event its offset."""
    return tuple(enumerate(events, first))
