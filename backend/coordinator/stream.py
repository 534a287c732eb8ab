"""The talk's broker: what nodes say about circuits, as one bounded log that any number of readers follow, each with a cursor of its own.

In: a node's reports and its words about probes. Out: the same, in the order in which they came, at least once. Nothing is acknowledged: a
reader keeps its cursor, and is told by a `Mark` where entries are gone that it has not read, trimmed or lost with Valkey's memory. Two
methods are the port, so that Kafka can take the place of Valkey. `MemoryStream` is the twin for tests and sits the same exam.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
import structlog
from msgspec import Struct
from redis.asyncio import Redis

from backend.clock import Clock
from backend.jobs.valkey import engine_errors
from backend.providers.circuits import Circuit, Report

LOG = "moa:circuits:v1:{said}:log"  # stream; k: kind of word, n: number of the entry, b: bytes so far, w: the word
HEAD = "moa:circuits:v1:{said}:head"  # hash: entries and bytes that were ever appended

NEWEST = "$"  # a cursor for whoever wants only what comes; reading from it answers at once, with a `Mark` at the end of the log
OLDEST = "0-0/0"  # a cursor before everything that is still there

MOST_ENTRIES = 50_000
MOST_BYTES = 64 * 1024 * 1024  # of words: a minute of 20,000 calls a second
LONGEST_WAIT = 2.0  # seconds; shorter than the time in which a command must be answered
ANSWERED_WITHIN = 1.0  # seconds that who asks for a probe waits for the answer; later it is given to nobody
_AT_ONCE = 64  # entries of one reading; a report has 100 KB at most

log = structlog.get_logger(__name__)


class ProbeWanted(Struct, frozen=True, kw_only=True):
    """A node asks for the probe of a circuit, or for more time with it."""

    circuit: Circuit
    name: str  # under which it reports
    number: int = 0  # of the asking, so that its answer can be told from that to an earlier one
    wanted: bool = True  # whether somebody waits for this institution
    epoch: int = 0  # of the decision by which it is open to that node


class ProbeGivenBack(Struct, frozen=True, kw_only=True):
    """A node gives its probe back without a result."""

    circuit: Circuit
    name: str
    fence: int


class ModesChanged(Struct, frozen=True):
    """An operator said something new: it is to be read now, not within a second."""


Word: TypeAlias = Report | ProbeWanted | ProbeGivenBack | ModesChanged


class Mark(Struct, frozen=True):
    """Nobody's word: where the reader stands from now on."""

    missed: int | None = 0  # entries before this place that it can't read any more. None: nobody knows how many, the log was lost


class Entry(Struct, frozen=True):
    """A word, and how old it was when it was read: a moment would be of Valkey's clock, which may be set while readers go by their own."""

    age_ms: float  # since the log took it
    word: Word | Mark


class Stream(Protocol):
    """The port."""

    async def append(self, word: Word) -> None:
        """Returns when it is kept. Raises `EngineUnavailable`; then it may have been kept all the same."""
        ...

    async def read(self, after: str, wait: float) -> list[tuple[str, Entry]]:
        """What follows the cursor `after`, each entry with the cursor behind it; nothing, if nothing came within `wait` seconds.

        Raises `EngineUnavailable`; asking again from the same cursor is right then.
        """
        ...


class StreamedReports:
    """`noticing.Reports` by the stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def send(self, report: Report) -> None:
        """See `Stream.append`."""
        await self._stream.append(report)


_KINDS: dict[type[Any], bytes] = {Report: b"report", ProbeWanted: b"wanted", ProbeGivenBack: b"given_back", ModesChanged: b"modes"}
_DECODERS = {kind: msgspec.msgpack.Decoder(word) for word, kind in _KINDS.items()}


class ValkeyStream:
    """The log in Valkey. One script appends, numbers and trims, so that a reader can tell by the numbers what it missed."""

    def __init__(self, redis: Redis, *, most_entries: int = MOST_ENTRIES, most_bytes: int = MOST_BYTES) -> None:
        self._redis = redis
        self._bounds = (most_entries, most_bytes)
        self._append = redis.register_script(Path(__file__).with_name("append.lua").read_text())

    async def append(self, word: Word) -> None:
        """See `Stream.append`."""
        with engine_errors():
            await self._append([LOG, HEAD], [_KINDS[type(word)], msgspec.msgpack.encode(word), *self._bounds])

    async def read(self, after: str, wait: float) -> list[tuple[str, Entry]]:
        """See `Stream.read`. Waits for `LONGEST_WAIT` at most."""
        if after == NEWEST:
            return [await self._end()]
        place, _, number = after.partition("/")
        block = max(1, round(min(wait, LONGEST_WAIT) * 1000)) if wait > 0 else None  # 0 would be for ever
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xread({LOG: place}, count=_AT_ONCE, block=block)
        pipeline.time()
        with engine_errors():
            found, (seconds, micros) = await pipeline.execute()
        now_ms = seconds * 1000 + micros / 1000
        return _read(int(number), found[0][1], now_ms) if found else await self._nothing(int(number))

    async def _end(self) -> tuple[str, Entry]:
        with engine_errors():
            newest = await self._redis.xrevrange(LOG, count=1)
        place, number = (newest[0][0].decode(), int(newest[0][1][b"n"])) if newest else ("0-0", 0)
        return _cursor(place, number), Entry(0.0, Mark())

    async def _nothing(self, number: int) -> list[tuple[str, Entry]]:
        """A log that has fewer entries than were read is another one, and may have begun at an earlier time."""
        with engine_errors():
            [appended] = await self._redis.hmget(HEAD, ["entries"])  # type: ignore[misc]  # redis-py's types: of both its clients
        return [(OLDEST, Entry(0.0, Mark(None)))] if int(appended or 0) < number else []


def _read(number: int, found: Iterable[tuple[bytes, dict[bytes, bytes]]], now_ms: float) -> list[tuple[str, Entry]]:
    """`number`: of the entry before them. One that is not larger is of another log, of which some may lie before the cursor's moment."""
    entries: list[tuple[str, Entry]] = []
    for place_, fields in found:
        place, came = place_.decode(), int(fields[b"n"])
        if came <= number:
            return [*entries, (OLDEST, Entry(0.0, Mark(None)))]
        cursor, age_ms = _cursor(place, came), max(now_ms - _moment(place), 0.0)
        if came != number + 1:
            entries.append((cursor, Entry(age_ms, Mark(came - number - 1))))
        entries.append((cursor, Entry(age_ms, _word(fields))))
        number = came
    return entries


def _word(fields: dict[bytes, bytes]) -> Word | Mark:
    """What nobody here can read, of a newer version perhaps, was missed."""
    try:
        word: Word = _DECODERS[fields[b"k"]].decode(fields[b"w"])
    except (KeyError, msgspec.MsgspecError):
        log.warning("stream.not_understood", kind=fields.get(b"k", b"").decode(errors="replace")[:20])
        return Mark(1)
    return word


def _cursor(place: str, number: int) -> str:
    return f"{place}/{number}"


def _moment(place: str) -> float:
    """By Valkey's clock, Unix ms; the last one there was, while that clock is behind it."""
    return float(place.partition("-")[0])


class MemoryStream:
    """The twin. `forget` is what a wiped one knows."""

    def __init__(self, clock: Clock, *, most_entries: int = MOST_ENTRIES) -> None:
        self._clock = clock
        self._most = most_entries
        self._more = asyncio.Event()
        self._life = 0
        self.forget()

    def forget(self) -> None:
        """Loses everything."""
        self._entries: deque[tuple[int, float, Word]] = deque(maxlen=self._most)  # number, when it came (monotonic), word
        self._number = 0
        self._life += 1

    async def append(self, word: Word) -> None:
        """See `Stream.append`."""
        self._number += 1
        self._entries.append((self._number, self._clock.monotonic(), word))
        self._more.set()

    async def read(self, after: str, wait: float) -> list[tuple[str, Entry]]:
        """See `Stream.read`."""
        if after == NEWEST:
            return [(self._place(self._number), Entry(0.0, Mark()))]
        life, _, number = after.partition("/")
        if after != OLDEST and life != f"{self._life}-0":
            return [(OLDEST, Entry(0.0, Mark(None)))]
        if self._number <= int(number) and wait > 0:
            await self._wait(wait)
        return self._following(int(number))

    def _following(self, number: int) -> list[tuple[str, Entry]]:
        entries: list[tuple[str, Entry]] = []
        for came, at, word in [each for each in self._entries if each[0] > number][:_AT_ONCE]:
            age_ms = (self._clock.monotonic() - at) * 1000
            if came != number + 1:
                entries.append((self._place(came), Entry(age_ms, Mark(came - number - 1))))
            entries.append((self._place(came), Entry(age_ms, word)))
            number = came
        return entries

    def _place(self, number: int) -> str:
        return _cursor(f"{self._life}-0", number)

    async def _wait(self, seconds: float) -> None:
        self._more.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._more.wait()
        except TimeoutError:
            pass
