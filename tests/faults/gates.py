"""A TCP door before an engine, as networks are: it can go silent, let nobody in any more, or forget who is inside.

In: the engine's Unix socket. Out: a port, and three ways of being away. A door that is shut does not refuse: its queue is full, so that the
system drops who knocks, as a firewall does. What a firewall forgets after it was changed stays silent for good, while others come in.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.faults.chaos import PIECE, Blackhole, Proxy

ROOM = 128  # connections that may wait for the door, while it is open
KNOCKS = 4  # more than may wait for a door that is shut


class Gate:
    """Made by `gate`."""

    def __init__(self, upstream: Path, door: socket.socket) -> None:
        self._upstream = upstream
        self._door = door
        self._proxy = Proxy(upstream, random.Random(0))
        self._forgotten: list[Proxy] = []
        self._knocking: list[socket.socket] = []
        self._inside: set[asyncio.Task[None]] = set()
        self._open()

    @property
    def port(self) -> int:
        return int(self._door.getsockname()[1])

    def silence(self) -> None:
        """Whoever is inside, and whoever comes, is not answered."""
        self._proxy.set(Blackhole())

    def shut(self) -> None:
        """Nobody inside is answered, and nobody gets in."""
        self.silence()
        asyncio.get_running_loop().remove_reader(self._door)
        self._door.listen(0)
        for _ in range(KNOCKS):
            knocking = socket.socket()
            knocking.setblocking(False)
            knocking.connect_ex(self._door.getsockname())
            self._knocking.append(knocking)

    def heal(self, *, forget: bool = False) -> None:
        """All is well again; connections that lost something are reset. `forget`: those from before are not, they stay silent."""
        if forget:
            self._forgotten.append(self._proxy)
            self._proxy = Proxy(self._upstream, random.Random(0))
        else:
            self._proxy.heal()
        self._go_away()
        self._open()

    def _go_away(self) -> None:
        for knocking in self._knocking:
            knocking.close()
        self._knocking.clear()

    def _open(self) -> None:
        self._door.listen(ROOM)
        asyncio.get_running_loop().add_reader(self._door, self._let_in)

    def _let_in(self) -> None:
        with suppress(BlockingIOError):  # who knocked has gone
            inside, _ = self._door.accept()
            task = asyncio.create_task(self._serve(inside))
            self._inside.add(task)
            task.add_done_callback(self._inside.discard)

    async def _serve(self, inside: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=inside, limit=PIECE)
        await self._proxy.serve(reader, writer)

    async def close(self) -> None:
        """Ends everything."""
        asyncio.get_running_loop().remove_reader(self._door)
        self._go_away()
        for proxy in (self._proxy, *self._forgotten):
            await proxy.close()
        for task in self._inside:
            task.cancel()
        await asyncio.gather(*self._inside, return_exceptions=True)


@asynccontextmanager
async def gate(upstream: Path) -> AsyncIterator[Gate]:
    """A door on any free port of this machine, open, while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=ROOM) as door:
        door.setblocking(False)
        made = Gate(upstream, door)
        try:
            yield made
        finally:
            await made.close()
