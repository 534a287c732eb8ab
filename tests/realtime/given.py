"""Words for tests of the feed: tokens, events, a client that says exactly what it is told, a small server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import jwt
import orjson
import uvicorn
from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket

from backend.clock import SystemClock
from backend.errors import PROBLEMS, Refused
from backend.events import Event, EventType
from backend.realtime.feed import Feed
from backend.realtime.hub import Hub

SECRET = "a secret for tests that is long enough"


def token(sub: str = "anna", *, scope: str = "user", ttl: float = 3600, secret: str = SECRET) -> str:
    exp = (SystemClock().now() + timedelta(seconds=ttl)).timestamp()
    return jwt.encode({"sub": sub, "scope": scope, "exp": exp}, secret, algorithm="HS256")


def event(offset: int) -> bytes:
    return Event(EventType.PROVIDER_CONNECTING, "2026-11-22T01:02:03.004Z", org_code="A1MOABK001", data={"n": offset}).encode()


def numbers(publications: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """(offset, what the event says its offset is)."""
    return [(publication["offset"], publication["data"]["data"]["n"]) for publication in publications]


class Raw:
    """A WebSocket client that says exactly what the test says."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.waiting: list[dict[str, Any]] = []

    async def say(self, *commands: dict[str, Any]) -> None:
        await self.connection.send(b"\n".join(map(orjson.dumps, commands)).decode())

    async def hear(self) -> dict[str, Any]:
        if not self.waiting:
            async with asyncio.timeout(5):
                frame = await self.connection.recv()
            assert isinstance(frame, str), "JSON goes in text frames"
            self.waiting = [orjson.loads(line) for line in frame.split("\n")]
        return self.waiting.pop(0)

    async def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        await self.say(command)
        return await self.hear()

    async def publications(self, count: int) -> list[dict[str, Any]]:
        return [(await self.hear())["push"]["pub"] for _ in range(count)]

    async def closed(self) -> tuple[int | None, str | None]:
        async with asyncio.timeout(5):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason


@dataclass
class Api:
    redis: Redis
    feed: Feed
    hub: Hub
    port: int
    relayed: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/events"

    async def append(self, first: int, last: int, user_id: str = "anna") -> None:
        await self.feed.append(user_id, [(offset, event(offset)) for offset in range(first, last + 1)])

    @asynccontextmanager
    async def raw(self, path: str = "/v1/events", **options: Any) -> AsyncIterator[Raw]:
        async with connect_websocket(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options) as connection:
            yield Raw(connection)

    @asynccontextmanager
    async def connected(self, sub: str = "anna", **options: Any) -> AsyncIterator[Raw]:
        async with self.raw(**options) as raw:
            assert "connect" in await raw.ask({"id": 1, "connect": {"token": token(sub)}})
            yield raw

    def http(self, sub: str = "anna", **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {token(sub)}", **headers}, trust_env=False)


async def problem(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, Refused)
    return JSONResponse({"code": exc.problem, "errors": list(exc.errors)}, PROBLEMS[exc.problem].status)


@asynccontextmanager
async def serve(app: Any) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws="websockets-sansio", log_level="error", lifespan="off", ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await serving


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 5) -> None:
    """Waits for something that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.002)
