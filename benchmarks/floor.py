"""The least that brings a published event to a socket, as a process of its own: a bare reader of Valkey's protocol, and a write.

In: WebSocket upgrades; the bearer token is the person's name as it is. Out: each event of that person's feed as one frame. No check, no
recovery, no backpressure, no other client's wait: nobody could use it. It says what Valkey, kernel and event loop cost by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
from websockets.http11 import Request
from websockets.server import ServerProtocol

from backend.realtime.feed import channel
from benchmarks.companions import Answering, serve

SUBSCRIBED = b'{"id":2}'


def framed(text: bytes) -> bytes:
    """One unmasked text frame (RFC 6455, 5.2)."""
    if len(text) < 126:
        return bytes((0x81, len(text))) + text
    return b"\x81\x7e" + len(text).to_bytes(2, "big") + text  # 64 KiB at the most, more than any event here


class Reader(asyncio.Protocol):
    """The one connection to Valkey."""

    def __init__(self) -> None:
        self.sockets: dict[bytes, Socket] = {}
        self._read = hiredis.Reader()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def follow(self, socket: Socket, person: str) -> None:
        name = channel(person).encode()
        self.sockets[name] = socket
        assert self._transport is not None
        self._transport.write(b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(name), name))

    def data_received(self, data: bytes) -> None:
        self._read.feed(data)
        while (answer := self._read.gets()) is not False:
            kind, name, message = answer
            socket = self.sockets[name]
            if kind == b"message":
                _, _, event = message.split(b"\n")  # epoch, offset, one event
                socket.write(framed(event))
            elif kind == b"subscribe":
                socket.write(framed(SUBSCRIBED))


class Socket(asyncio.Protocol):
    """One client: the upgrade is answered; whatever it says later is not read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._protocol = ServerProtocol()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast("asyncio.Transport", transport).write

    def data_received(self, data: bytes) -> None:
        if self._open:
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            assert isinstance(event, Request)
            self._protocol.send_response(self._protocol.accept(event))
            self.write(b"".join(self._protocol.data_to_send()))
            self._open = True
            self._reader.follow(self, event.headers["Authorization"].removeprefix("Bearer "))


def _begin(valkey_url: str) -> Callable[[], Awaitable[Answering]]:
    async def begin() -> Answering:
        loop = asyncio.get_running_loop()
        _, reader = await loop.create_unix_connection(Reader, urlsplit(valkey_url).path)
        server = await loop.create_server(lambda: Socket(reader), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def answer(_question: dict[str, Any]) -> object:
            return {"url": f"ws://127.0.0.1:{port}/v1/events"}

        return answer

    return begin


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor")
    parser.add_argument("--valkey", required=True, help="unix://…")
    serve(_begin(parser.parse_args().valkey))


if __name__ == "__main__":
    main()
