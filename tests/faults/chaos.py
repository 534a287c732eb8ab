"""A proxy for one edge of the system that can be made sick while bytes flow: TCP or Unix socket on either side.

In: where to listen, where the real server is, and a `Fault`, which may change at any moment. Out: the same bytes, late, fewer, other, or
none. Each direction of a connection holds at most `PIECES` pieces of `PIECE` bytes; what does not fit waits in the sender, as in a network.
What was swallowed or changed is gone for good, so `heal` resets the connections that it happened to.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

PIECE = 16 * 1024  # bytes
PIECES = 16

Address: TypeAlias = tuple[str, int] | Path
NO_LINGER = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: close sends RST


@dataclass(frozen=True)
class Latency:
    """Every piece arrives so much later, in order. Seconds."""

    seconds: float
    jitter: float = 0.0


@dataclass(frozen=True)
class Stall:
    """Nothing moves, nothing is lost: it goes on when the fault is over."""


@dataclass(frozen=True)
class Blackhole:
    """Connections open, bytes vanish, nobody is told."""


@dataclass(frozen=True)
class Reset:
    """Every connection is reset: those that are there, and new ones as soon as they open."""


@dataclass(frozen=True)
class HalfClose:
    """The client is told that the server has said its last word; what the client says still arrives."""


@dataclass(frozen=True)
class Corrupt:
    """One bit of every so many pieces from the server is another."""

    every: int = 1


@dataclass(frozen=True)
class Truncate:
    """Each connection ends after so many more bytes from the server."""

    after: int


Fault: TypeAlias = Latency | Stall | Blackhole | Reset | HalfClose | Corrupt | Truncate


@dataclass(eq=False)
class _Connection:
    """Two streams, and whether they are still what the two ends sent."""

    writers: tuple[asyncio.StreamWriter, ...]
    whole: bool = True
    left: int | None = None  # bytes until `Truncate` ends it; None: not counted yet
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        for writer in self.writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()

    def close(self) -> None:
        for writer in self.writers:
            writer.close()


class Proxy:
    """One edge. Made by `proxying`."""

    def __init__(self, upstream: Address, dice: random.Random) -> None:
        self._upstream = upstream
        self._dice = dice
        self._fault: Fault | None = None
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._pieces = 0

    def set(self, fault: Fault) -> None:
        """From now on the edge is sick in this way, and in no other."""
        self._fault = fault
        for connection in self._connections:
            connection.left = None
        if isinstance(fault, Reset):
            self.cut()
        self._tell()

    def heal(self) -> None:
        """The edge is well again."""
        self._fault = None
        for connection in [one for one in self._connections if not one.whole]:
            connection.reset()
        self._tell()

    def cut(self) -> None:
        """Resets every connection once."""
        for connection in tuple(self._connections):
            connection.reset()

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, to its end."""
        connection = _Connection((writer,))
        self._connections.add(connection)
        try:
            await self._carry(connection, reader, writer)
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)
            connection.close()

    async def close(self) -> None:
        """Ends every connection."""
        self.cut()
        tasks = [task for connection in self._connections for task in connection.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if isinstance(self._fault, Reset):
            connection.reset()
            return
        there, back = await _opened(self._upstream)
        connection.writers = (writer, back)
        directions = ((reader, back, False), (there, writer, True))
        connection.tasks = [asyncio.create_task(self._pump(connection, *direction)) for direction in directions]
        await asyncio.gather(*connection.tasks, return_exceptions=True)

    async def _pump(self, connection: _Connection, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        """One direction. A reader hands pieces with their due time to a writer, so that a latency does not add up."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES)
        reading = asyncio.create_task(self._read(source, pieces))
        connection.tasks.append(reading)
        try:
            while piece := await self._next(pieces):
                if not await self._pass(connection, sink, piece, answers):
                    return
            if sink.can_write_eof():
                sink.write_eof()
        except (OSError, RuntimeError):  # RuntimeError: asyncio's word for a transport that was closed meanwhile
            connection.reset()
        finally:
            reading.cancel()

    async def _read(self, source: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        piece = b"-"
        while piece:
            try:
                piece = await source.read(PIECE)
            except OSError:
                piece = b""
            await pieces.put((asyncio.get_running_loop().time() + self._delay(), piece))

    def _delay(self) -> float:
        match self._fault:
            case Latency(seconds=seconds, jitter=jitter):
                return seconds + self._dice.uniform(0, jitter)
        return 0.0

    async def _next(self, pieces: asyncio.Queue[tuple[float, bytes]]) -> bytes:
        """What may leave now; b"" when the sender has ended."""
        due, piece = await pieces.get()
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        while isinstance(self._fault, Stall):
            self._changed.clear()
            await self._changed.wait()
        return piece

    async def _pass(self, connection: _Connection, sink: asyncio.StreamWriter, piece: bytes, answers: bool) -> bool:
        """Sends the piece as the fault lets it; False: this direction is over."""
        match self._fault:
            case Blackhole():
                connection.whole = False
                return True
            case HalfClose() if answers:
                connection.whole = False
                if sink.can_write_eof():
                    sink.write_eof()
                return False
            case Corrupt(every=every) if answers:
                piece = self._corrupted(connection, piece, every)
            case Truncate(after=after) if answers:
                connection.left = after if connection.left is None else connection.left
                piece, connection.left = piece[: connection.left], connection.left - len(piece)
        sink.write(piece)
        await sink.drain()
        if connection.left is not None and connection.left <= 0:
            connection.close()
            return False
        return True

    def _corrupted(self, connection: _Connection, piece: bytes, every: int) -> bytes:
        self._pieces += 1
        if self._pieces % every:
            return piece
        connection.whole = False
        changed = bytearray(piece)
        changed[self._dice.randrange(len(changed))] ^= 1 << self._dice.randrange(8)
        return bytes(changed)

    def _tell(self) -> None:
        self._changed.set()


async def _opened(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, Path):
        return await asyncio.open_unix_connection(str(address), limit=PIECE)
    return await asyncio.open_connection(*address, limit=PIECE)


@asynccontextmanager
async def proxying(listen: Address, upstream: Address, *, seed: int = 0) -> AsyncIterator[Proxy]:
    """A proxy that listens while the block runs. `listen` must be free; the order of its dice follows from `seed`."""
    proxy = Proxy(upstream, random.Random(seed))
    if isinstance(listen, Path):
        server = await asyncio.start_unix_server(proxy.serve, str(listen), limit=PIECE)
    else:
        server = await asyncio.start_server(proxy.serve, *listen, limit=PIECE)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 5)
