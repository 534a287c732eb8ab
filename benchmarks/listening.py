"""An app's sockets, as a process of its own: notes when each piece of the stream came in, and looks into it only when asked.

In: `{"open": [[person, token], …], "url": …}`, which closes those before. Out: `{"take": true}` -> `[person, moment, text]` of each frame.
The leanest client there is, so that what it costs does not hide what the servers cost: the protocol is read after the measurement.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from benchmarks.companions import Answering, serve
from benchmarks.journeys import COMMANDS

SUBSCRIBED = b'"id":2'
OPEN_SECONDS = 20.0


class Ear(asyncio.Protocol):
    """One socket."""

    def __init__(self, url: str, token: str) -> None:
        self._protocol = ClientProtocol(parse_uri(url))
        self._token = token
        self._came: list[tuple[float, bytes]] = []
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    async def join(self, url: str) -> None:
        """Returns when it will hear everything."""
        where = urlsplit(url)
        await asyncio.get_running_loop().create_connection(lambda: self, where.hostname or "", where.port or 80)
        await self.subscribed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        request = self._protocol.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._protocol.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._came.append((time.monotonic(), data))
        if not self.subscribed.done():
            self._join()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.subscribed.done():
            self.subscribed.set_exception(exc or ConnectionError("closed before it was subscribed"))

    def heard(self) -> list[tuple[float, str]]:
        """Moment and text of each frame since the last time; a frame is there when its last byte is."""
        frames = []
        came, self._came = self._came, []
        for moment, data in came:
            self._protocol.receive_data(data)
            frames += [(moment, bytes(each.data).decode()) for each in self._texts()]
        return frames

    def _join(self) -> None:
        for _, data in self._came:
            self._protocol.receive_data(data)
            if any(SUBSCRIBED in each.data for each in self._texts()):
                self.subscribed.set_result(None)
        self._came.clear()

    def _texts(self) -> list[Frame]:
        events = self._protocol.events_received()
        if any(not isinstance(event, Frame) for event in events) and self._protocol.handshake_exc is None:  # the upgrade's answer
            self._protocol.send_text(COMMANDS.encode())
            self._write()
        return [event for event in events if isinstance(event, Frame) and event.opcode is Opcode.TEXT]

    def _write(self) -> None:
        if self.transport is not None:
            self.transport.write(b"".join(self._protocol.data_to_send()))


class Ears:
    """All of them."""

    def __init__(self) -> None:
        self._ears: dict[str, Ear] = {}

    async def answer(self, question: dict[str, Any]) -> object:
        if "open" in question:
            await self._open(question["url"], question["open"])
            return None
        return [(person, moment, text) for person, ear in self._ears.items() for moment, text in ear.heard()]

    async def _open(self, url: str, people: list[tuple[str, str]]) -> None:
        for ear in self._ears.values():
            if ear.transport is not None:
                ear.transport.close()
        self._ears = {person: Ear(url, token) for person, token in people}
        async with asyncio.timeout(OPEN_SECONDS):
            for ear in self._ears.values():
                await ear.join(url)


async def begin() -> Answering:
    return Ears().answer


if __name__ == "__main__":
    serve(begin)
