"""Two APIs and two workers: a registration posted to one is followed on the other, by every transport, whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from centrifuge import Client, PublicationContext, StreamPosition, SubscriptionEventHandler

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from backend.settings import Settings, load_settings
from tests.registration import client_fold

pytestmark = pytest.mark.system

JSON = dict[str, Any]
TERMINAL = {"completed", "failed", "cancelled"}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MOA_")]:
        monkeypatch.delenv(name)


class Fleet:
    """A system that runs: its two addresses, and whom it knows."""

    def __init__(self, system: Any) -> None:
        self.system = system
        self.first = system.ready()
        self.second = next(line.split()[1].rstrip("/") for line in system.said.splitlines() if line.startswith("also "))
        self.settings: Settings = load_settings(system.data)

    def token(self, user: str) -> str:
        return development_token(self.settings, user=user, ops=False, ttl=600, now=SystemClock().now())

    def client(self, url: str, user: str) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)

    def workers(self) -> list[int]:
        """The pids of the workers."""
        return [pid for pid in self.system.processes() if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.fixture
def fleet(up: Callable[..., Any]) -> Iterator[Fleet]:
    system = up("--apis", "2", "--workers", "2")
    yield Fleet(system)
    assert "Traceback" not in system.said
    assert system.ends(signal.SIGINT) == 0


class Heard(SubscriptionEventHandler):  # type: ignore[misc]
    """What the official client hands over."""

    def __init__(self) -> None:
        self.events: list[JSON] = []
        self.ended = asyncio.Event()

    async def on_publication(self, ctx: PublicationContext) -> None:
        self.events.append({"offset": ctx.pub.offset, **ctx.pub.data})
        if ctx.pub.data["type"] == "registration.completed":
            self.ended.set()


async def by_websocket(fleet: Fleet, url: str, user: str, since: JSON) -> list[JSON]:
    """Everything from a position to the registration's end, by the official client."""
    heard = Heard()

    async def get_state(_: str) -> StreamPosition:
        return StreamPosition(offset=since["offset"], epoch=since["epoch"])

    client = Client(url.replace("http", "ws", 1) + "/v1/events", token=fleet.token(user), proxy=None)
    subscription = client.new_subscription("feed", events=heard, get_state=get_state)
    await client.connect()
    await subscription.subscribe()
    try:
        await asyncio.wait_for(heard.ended.wait(), 60)
    finally:
        await client.disconnect()
    return heard.events


async def by_poll(api: httpx.AsyncClient, since: JSON) -> list[JSON]:
    """The same, by REST."""
    events: list[JSON] = []
    async with asyncio.timeout(60):
        while not any(event["type"] == "registration.completed" for event in events):
            params = {"since": f"{since['epoch']}:{since['offset']}", "wait": "5"}
            since = (await api.get("/v1/events", params=params)).json()
            events += since["events"]
    return events


async def follow(fleet: Fleet, user: str, org_codes: list[str]) -> tuple[list[JSON], list[JSON], JSON]:
    """Registers on the first API, follows on the second both ways; then the law must hold. Returns both lists and the end."""
    async with fleet.client(fleet.first, user) as here, fleet.client(fleet.second, user) as there:
        accepted = (await here.post("/v1/registrations", json={"providers": org_codes})).json()
        pushed, polled = await asyncio.gather(
            by_websocket(fleet, fleet.second, user, accepted["position"]), by_poll(there, accepted["position"])
        )
        fresh = (await here.get(f"/v1/registrations/{accepted['id']}")).json()
    view = client_fold.Client(accepted)
    for event in polled:
        view.hear(event)
    assert view.registration == {name: value for name, value in fresh.items() if name != "position"}
    assert [event["offset"] for event in polled] == list(range(1, len(polled) + 1))
    return pushed, polled, fresh


async def test_what_one_api_takes_the_other_tells_by_every_transport(fleet: Fleet) -> None:
    async with fleet.client(fleet.first, "anna") as api:
        org_codes = [provider["org_code"] for provider in (await api.get("/v1/providers")).json()["providers"]]
    pushed, polled, fresh = await follow(fleet, "anna", org_codes)
    assert pushed == polled
    assert fresh["status"] == "completed"
    assert {provider["status"] for provider in fresh["providers"]} == {"completed"}

    # Kill one of the two workers while it reads from slow providers: the other one ends its work.
    async with httpx.AsyncClient(trust_env=False) as http:
        for org_code in org_codes:
            change = {"mode": "slow", "latency_ms": {"p50": 400, "p99": 900}}
            (await http.put(f"{fleet.settings.sandbox_url}/sandbox/providers/{org_code}", json=change)).raise_for_status()
    following = asyncio.create_task(follow(fleet, "berta", org_codes))
    async with fleet.client(fleet.second, "berta") as api, asyncio.timeout(30):
        while not (await api.get("/v1/assets")).json()["assets"]:
            await asyncio.sleep(0.05)
    os.kill(fleet.workers()[0], signal.SIGKILL)
    pushed, polled, fresh = await following
    assert pushed == polled
    assert fresh["status"] == "completed", fresh
    assert {provider["status"] for provider in fresh["providers"]} <= TERMINAL
