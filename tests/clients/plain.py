"""SSE and poll as apps: what a few lines with any HTTP client make of them. A broken connection is begun again from the last event.

In: an address, a position. Out: events for the app, and a snapshot whenever it hears that history is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson

from tests.clients.apps import App, Place
from tests.clients.people import read_snapshot

PAUSE = 0.01  # seconds before it is tried again
POLL_WAIT = 1  # seconds

Step = Callable[[httpx.AsyncClient, App], Coroutine[Any, Any, None]]


@asynccontextmanager
async def following(app: App, step: Step, *, url: str, since: Place) -> AsyncIterator[None]:
    """The app follows from `since` while the block runs; `step` is `stream` or `poll`."""
    app.place = app.began = since

    async def for_ever() -> None:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as http:
            while True:
                http.headers["Authorization"] = f"Bearer {await app.get_token()}"
                with suppress(httpx.HTTPError):
                    await catch_up(http, app)
                    await step(http, app)
                await asyncio.sleep(PAUSE)

    task = asyncio.create_task(for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def catch_up(http: httpx.AsyncClient, app: App) -> None:
    """Reads a snapshot if the app needs one."""
    if app.stale:
        app.read(await read_snapshot(http), goes_on=False)


async def stream(http: httpx.AsyncClient, app: App) -> None:
    """One SSE stream, until it ends or says that history is lost."""
    assert app.place is not None
    headers = {"Accept": "text/event-stream", "Last-Event-ID": f"{app.place[0]}:{app.place[1]}"}
    async with http.stream("GET", "/v1/events", headers=headers) as answer:
        if answer.status_code != 200:
            return
        told: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                told[name] = value
            elif "data" in told:
                _take(app, told)
                told = {}
                if app.stale:
                    return


def _take(app: App, told: dict[str, str]) -> None:
    data = orjson.loads(told["data"])
    epoch, _, offset = told["id"].rpartition(":")
    if told["event"] == "position":
        app.attached((epoch, int(offset)), recovered=data["recovered"])
        return
    assert told["event"] == data["type"]
    app.event(int(offset), data)


async def poll(http: httpx.AsyncClient, app: App) -> None:
    """One long poll."""
    assert app.place is not None
    answer = await http.get("/v1/events", params={"since": f"{app.place[0]}:{app.place[1]}", "wait": POLL_WAIT})
    if answer.status_code != 200:
        return
    page = answer.json()
    if not page["recovered"]:
        app.attached((page["epoch"], page["offset"]), recovered=False)
    for event in page["events"]:
        app.event(event.pop("offset"), event)
    if app.place != (page["epoch"], page["offset"]):
        app.faults.append(f"{app.name} is at {app.place}, and the answer says {page['offset']}")
