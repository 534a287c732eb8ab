"""People with a token and an API of their own, which may be told to go and come back.

In: a `House`. Out: a `Person` who registers and reads, straight from the API; an `ApiProcess` as a task.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn

from backend.app import create_app
from tests.clients.apps import JSON, Place, Snapshot
from tests.registration.house import Following, House, token

_NUMBERS = itertools.count(1)


@dataclass
class AnApi:
    """An API without limits on how often somebody comes back."""

    url: str
    app: Any

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    async def drain(self) -> None:
        """What SIGTERM does before the process ends."""
        await self.app.state.drain()


@asynccontextmanager
async def an_api(house: House) -> AsyncIterator[AnApi]:
    """One more API of the house's system. With the block it ends as a process does: connections first, then engines."""
    app = create_app(house.settings.model_copy(update={"rate_limit_per_minute": 0, "sockets_per_user": 0}))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, ws="websockets-sansio", log_config=None, access_log=False, ws_per_message_deflate=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield AnApi(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
    finally:
        server.should_exit = True
        await running


class Person:
    """Somebody new."""

    def __init__(self, house: House, api_url: str, sub: str, ttl: float) -> None:
        self.house, self.api_url, self.sub, self.ttl = house, api_url, sub, ttl
        self.tokens = 0  # how many were given
        self.client = house.client(sub, url=api_url)

    async def give_token(self) -> str:
        """What an app's own backend would give it."""
        self.tokens += 1
        return token(self.sub, ttl=self.ttl)

    async def begins(self, *org_codes: str) -> Following:
        return await self.client.register(*org_codes)

    async def registers(self, *org_codes: str) -> JSON:
        """From the request to the end, whatever it is on a machine that has little time for institutions."""
        following = await self.begins(*org_codes)
        await following.until(lambda: following.ends() > 0, 60)
        return following.view.registration

    async def place(self) -> Place:
        """The newest position."""
        page = (await self.client.get("/v1/events")).json()
        return page["epoch"], page["offset"]

    async def log(self, since: Place) -> tuple[Place, list[tuple[int, JSON]]]:
        """Everything after a position, as the log has it, and where it ends."""
        found: list[tuple[int, JSON]] = []
        while True:
            page = (await self.client.get("/v1/events", since=f"{since[0]}:{since[1]}")).json()
            assert page["recovered"]
            found += [(event.pop("offset"), event) for event in page["events"]]
            if not page["events"]:
                return since, found
            since = (page["epoch"], page["offset"])

    async def snapshot(self, url: str | None = None) -> Snapshot:
        """Registrations and assets as they are now. Raises `httpx.HTTPError`."""
        if url is None:
            return await read_snapshot(self.client.http)
        headers = {"Authorization": f"Bearer {token(self.sub)}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=5) as http:
            return await read_snapshot(http)


async def read_snapshot(http: httpx.AsyncClient) -> Snapshot:
    """The position first, then the data: what comes in between is in both, and does no harm."""
    registrations = await http.get("/v1/registrations", params={"limit": 100})
    assets = await http.get("/v1/assets", params={"limit": 500})
    for answer in (registrations, assets):
        answer.raise_for_status()
    epoch, _, offset = registrations.headers["x-feed-position"].rpartition(":")
    return Snapshot((epoch, int(offset)), registrations.json()["registrations"], assets.json()["assets"])


@asynccontextmanager
async def a_person(house: House, api_url: str, *, ttl: float = 3600) -> AsyncIterator[Person]:
    """Somebody new, whose tokens live for `ttl` seconds."""
    person = Person(house, api_url, f"app-user-{next(_NUMBERS)}", ttl)
    try:
        yield person
    finally:
        await person.client.http.aclose()
