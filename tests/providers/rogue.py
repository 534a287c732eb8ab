"""A server that does what the test says with each connection, byte by byte: what no well-behaved framework would do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK = b'{"rsp_code":"00000","account_list":[]}'


@dataclass
class Talk:
    """One connection, after its request was read."""

    number: int  # of the connection, from 1
    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def answer(self, body: bytes = OK, *headers: bytes, status: bytes = b"200 OK") -> None:
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
        await self.send(b"\r\n".join(lines), b"\r\n\r\n", body)

    def reset(self) -> None:
        """RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Talk], Awaitable[None]]


@dataclass
class Rogue:
    """`requests` are those that were read whole, in their order; `begun` counts those of which one byte came."""

    url: str = ""
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    begun: int = 0
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def rogue(behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[Rogue]:
    """Serves `behaviour` on a free loopback port; it is called for each request, on the same connection again until that closes.

    With `tls`, `connections` are those whose handshake ended well.
    """
    seen = Rogue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        seen.open_now += 1
        seen.most_open = max(seen.most_open, seen.open_now)
        number = seen.connections
        try:
            while not writer.is_closing():
                first = await reader.readexactly(1)
                seen.begun += 1
                request = await _request(first, reader)
                seen.requests.append(request)
                await behaviour(Talk(number, request, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            seen.open_now -= 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    seen.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()


async def _request(first: bytes, reader: asyncio.StreamReader) -> bytes:
    head = first + await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)
