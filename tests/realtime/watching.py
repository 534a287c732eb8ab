"""An app that changes its transport whenever it likes, and carries its position over: the least that a client of the contract must do.

In: an address, a token, an `App` that checks and remembers. Out: the same events whatever the transport. A broken connection is begun again
from the last event; what was lost is told to the app, which may have a snapshot read for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import StrEnum
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import WebSocketException

from tests.clients import plain
from tests.clients.apps import App, Place

JSON = dict[str, Any]

PAUSE = 0.005  # seconds before it is tried again


class Transport(StrEnum):
    WEBSOCKET = "websocket"
    SSE = "sse"
    POLL = "poll"


class Watcher:
    """Follows from `since`. `use` changes the transport, or cuts the same one off and begins it again; None: offline."""

    def __init__(self, app: App, *, port: int, http: httpx.AsyncClient, since: Place) -> None:
        self.app = app
        self._http = http
        self._url = f"ws://127.0.0.1:{port}/v1/events"
        self._task: asyncio.Task[None] | None = None
        app.place = app.began = since

    async def use(self, transport: Transport | None) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._task = asyncio.create_task(self._follow(transport)) if transport else None

    async def _follow(self, transport: Transport) -> None:
        steps = {Transport.WEBSOCKET: self._websocket, Transport.SSE: self._sse, Transport.POLL: self._poll}
        while True:
            with suppress(httpx.HTTPError, WebSocketException, OSError):
                self.app.stale = False  # it would read a snapshot now
                await steps[transport]()
            await asyncio.sleep(PAUSE)

    async def _sse(self) -> None:
        await plain.stream(self._http, self.app)

    async def _poll(self) -> None:
        await plain.poll(self._http, self.app)

    async def _websocket(self) -> None:
        async with connect_websocket(self._url, proxy=None, close_timeout=0.1) as connection:
            try:
                await self._converse(connection)
            finally:
                connection.transport.abort()  # a cut, not a goodbye

    async def _converse(self, connection: ClientConnection) -> None:
        assert self.app.place is not None
        epoch, offset = self.app.place
        subscribe = {"channel": "feed", "recover": True, "epoch": epoch, "offset": offset}
        await connection.send(_lines({"id": 1, "connect": {"token": await self.app.get_token()}}, {"id": 2, "subscribe": subscribe}))
        async for frame in connection:
            for line in frame.split("\n"):  # type: ignore[arg-type]
                if not self._hear(orjson.loads(line)):
                    return

    def _hear(self, said: JSON) -> bool:
        """False: it must subscribe again, and will be told why."""
        match said:
            case {"subscribe": reply}:
                self.app.attached((reply["epoch"], reply["offset"]), recovered=reply["recovered"])
                for publication in reply["publications"]:
                    self.app.event(publication["offset"], publication["data"])
            case {"push": {"pub": publication}}:
                self.app.event(publication["offset"], publication["data"])
        return "unsubscribe" not in said.get("push", {})


def _lines(*commands: JSON) -> str:
    return b"\n".join(map(orjson.dumps, commands)).decode()
