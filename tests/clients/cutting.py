"""A TCP proxy between a client and the API that plays the tunnel, the lift and the full pipe.

In: where the API listens, and a seed. Out: an address to give to clients, whose connections are torn after a drawn life, in the middle of
a frame if one passes by, with or without a reset; or nothing is read from the API for a while. `target` may be moved to another API.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

CHUNK = 4096
LAST_WORDS = 0.005  # seconds that a torn connection waits for a frame to tear

Life = tuple[float, float]  # seconds, shortest and longest


class Line:
    """One client's connection and ours to the API."""

    def __init__(self, proxy: CuttingProxy, client: asyncio.StreamWriter, api: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._api = proxy, client, api
        self._torn = False

    def tear(self) -> None:
        """Ends it within moments: in the middle of the next bytes, or without any."""
        if not self._torn:
            self._torn = True
            self._proxy.cuts += 1
            asyncio.get_running_loop().call_later(LAST_WORDS, self.end)

    def end(self) -> None:
        if self._proxy.random.random() < 0.5:  # a reset instead of an orderly end
            with contextlib.suppress(OSError, AttributeError):
                self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.transport.abort()
        self._api.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                if reader is not self._from_client:
                    await self._proxy.flowing.wait()
                if self._torn:
                    writer.write(data[: self._proxy.random.randrange(len(data) + 1)])
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        self.end()

    async def run(self, from_client: asyncio.StreamReader, from_api: asyncio.StreamReader) -> None:
        self._from_client = from_client
        await asyncio.gather(self.carry(from_client, self._api), self.carry(from_api, self._client))


class CuttingProxy:
    """Made by `cutting`. `life` None: connections live as long as their ends want."""

    def __init__(self, target: int, *, seed: int, life: Life | None) -> None:
        self.target = target
        self.life = life
        self.random = Random(seed)
        self.cuts = 0
        self.port = 0
        self.flowing = asyncio.Event()  # cleared: nothing more is taken from the API
        self.flowing.set()
        self._lines: set[Line] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/events"

    def cut(self) -> None:
        """Tears every connection."""
        for line in list(self._lines):
            line.tear()

    async def serve(self, from_client: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_api, api = await self._dial()
        except OSError:
            client.transport.abort()
            return
        line = Line(self, client, api)
        self._lines.add(line)
        timer = asyncio.get_running_loop().call_later(self.random.uniform(*self.life), line.tear) if self.life else None
        try:
            await line.run(from_client, from_api)
        finally:
            self._lines.discard(line)
            if timer is not None:
                timer.cancel()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """With a small buffer, so that the API soon feels it when nothing is read."""
        to_api = socket.socket()
        to_api.setblocking(False)
        to_api.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * CHUNK)
        try:
            await asyncio.get_running_loop().sock_connect(to_api, ("127.0.0.1", self.target))
        except OSError:
            to_api.close()
            raise
        return await asyncio.open_connection(sock=to_api, limit=CHUNK)


@asynccontextmanager
async def cutting(target: int, *, seed: int = 0, life: Life | None = None) -> AsyncIterator[CuttingProxy]:
    """A proxy in front of the API at port `target`, as long as the block."""
    proxy = CuttingProxy(target, seed=seed, life=life)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=CHUNK)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.flowing.set()
        for line in list(proxy._lines):
            line.end()
        await asyncio.sleep(0.01)  # the last lines end
