"""The whole system in this process: API under uvicorn, worker, coordinator, sandbox; over real PostgreSQL and real Valkey.

In: engines. Out: a `House`, and people who live in it: `Client`s of the API that follow their feed and hold it against the law.
Time is real here, since four programs share it; so every wait is for an event, and every deadline is short.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
import redis
import uvicorn

from backend.app import create_app
from backend.clock import SystemClock
from backend.coordinators import run_coordinator
from backend.logs import configure_logs
from backend.providers.sandbox.app import create_app as create_sandbox
from backend.providers.sandbox.options import SandboxOptions
from backend.settings import Settings
from backend.storage.schema import metadata
from backend.workers import run_worker
from tests.registration import client_fold
from tests.storage.given import copied

JSON = dict[str, Any]

SECRET = "a secret for tests that is long enough"
VAULT_KEYS = "k1:" + base64.b64encode(b"v" * 32).decode()

BANK, BANK2, CARD, INVEST, INSU = "A1MOABK001", "A1MOABK002", "B1MOACD001", "C1MOAIV001", "D1MOAIS001"
EFIN, CAPITAL, TELECOM = "E1MOAEF001", "F1MOACP001", "G1MOATC001"
ALL_SEVEN = (BANK, CARD, INVEST, INSU, EFIN, CAPITAL, TELECOM)

CALL_DEADLINE, PROVIDER_DEADLINE, DEFERRAL = 1.5, 8.0, 0.3  # seconds; the first is waited for, and must do on a busy machine

_NUMBERS = itertools.count(1)


def token(sub: str, *, secret: str = SECRET, algorithm: str = "HS256", ttl: float = 3600, **claims: Any) -> str:
    exp = (SystemClock().now() + timedelta(seconds=ttl)).timestamp()
    whole = {"sub": sub, "scope": "user", "exp": exp, **claims}
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, algorithm=algorithm)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The address of an application under uvicorn, as `moa api` serves it."""
    listener = socket.create_server(("127.0.0.1", 0))
    quiet = {"log_config": None, "log_level": "warning", "access_log": False}
    config = uvicorn.Config(app, ws="websockets-sansio", ws_per_message_deflate=False, timeout_graceful_shutdown=1, **quiet)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True  # not by force: the application closes what it opened
        await running


class Recorder:
    """Listens between us and the institutions: every body in either direction, while it is told to."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.bodies: list[bytearray] | None = None  # None: not listening

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.bodies is None:
            await self._app(scope, receive, send)
            return
        asked, told = bytearray(), bytearray()
        self.bodies += asked, told

        async def received() -> Any:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def sent(message: Any) -> None:
            told.extend(message.get("body", b""))
            await send(message)

        await self._app(scope, received, sent)


@dataclass
class House:
    """What runs, and how to steer it."""

    settings: Settings
    url: str
    http: httpx.AsyncClient
    recorder: Recorder
    logs: io.StringIO = field(default_factory=io.StringIO)

    def client(self, sub: str | None = None, *, url: str | None = None, **claims: Any) -> Client:
        """Somebody new, unless `sub` names them."""
        sub = sub or f"user-{next(_NUMBERS)}"
        headers = {"Authorization": f"Bearer {token(sub, **claims)}"}
        return Client(self, sub, httpx.AsyncClient(base_url=url or self.url, headers=headers, trust_env=False, timeout=30))

    def keep_logs(self) -> None:
        """Logs as a process of ours does, into `logs`; for the test that runs."""
        configure_logs(self.settings, process="house")
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler:
                handler.setStream(self.logs)

    async def provider(self, org_code: str, **change: Any) -> None:
        """Changes how a provider behaves."""
        (await self.http.put(f"{self.settings.sandbox_url}/sandbox/providers/{org_code}", json=change)).raise_for_status()

    async def ca(self, **change: Any) -> None:
        (await self.http.put(f"{self.settings.sandbox_url}/sandbox/ca", json=change)).raise_for_status()

    async def reset(self) -> None:
        (await self.http.post(f"{self.settings.sandbox_url}/sandbox/reset")).raise_for_status()

    async def calls(self, org_code: str | None = None) -> list[JSON]:
        """What the sandbox was asked."""
        params = {"org_code": org_code} if org_code else {}
        return list((await self.http.get(f"{self.settings.sandbox_url}/sandbox/calls", params=params)).json()["calls"])

    async def execute(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(str(self.settings.database_url.get_secret_value()))  # type: ignore[union-attr]
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    async def counts(self) -> dict[str, int]:
        """How many rows each table holds, without those that a coordinator writes whenever it likes."""
        of_coordinators = ("traffic", "circuit", "provider", "shared", "batch", "alerts", "notices")
        names = [table.name for table in metadata.sorted_tables if not table.name.startswith(of_coordinators)]
        parts = (f"SELECT '{name}' AS name, count(*) AS rows FROM {name}" for name in names)
        return {row["name"]: row["rows"] for row in await self.execute(" UNION ALL ".join(parts))}

    @asynccontextmanager
    async def another_api(self, **changed: Any) -> AsyncIterator[str]:
        """One more API of the same system with other settings."""
        async with serving(create_app(self.settings.model_copy(update=changed))) as url:
            yield url


@asynccontextmanager
async def a_house(*, database_url: str, valkey_url: str, **changed: Any) -> AsyncIterator[House]:
    """Everything, up and running while the block runs. `changed`: settings that are not the usual ones of tests."""
    async with AsyncExitStack() as stack:
        recorder = Recorder(create_sandbox(SandboxOptions(without_latency=True, approve_after_ms=0)))
        sandbox = await stack.enter_async_context(serving(recorder))
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            database_url=database_url,
            valkey_url=valkey_url,
            jwt_secret=SECRET,
            vault_keys=VAULT_KEYS,
            asset_id_secret="another secret for tests",
            sandbox_url=sandbox,
            allowed_origins="https://app.example",
            call_deadline=CALL_DEADLINE,
            provider_deadline=PROVIDER_DEADLINE,
            defer_seconds=DEFERRAL,
            ca_poll_ms=20,
            sweep_seconds=0.2,
            drain_seconds=2,
            circuit_acts=False,  # what one call becomes is told here, not what comes of many
            log_format="json",
        ).model_copy(update=changed)
        url = await stack.enter_async_context(serving(create_app(settings)))
        await stack.enter_async_context(_running(run_worker(settings, "interactive"), run_coordinator(settings)))
        house = House(settings, url, await stack.enter_async_context(httpx.AsyncClient(trust_env=False)), recorder)
        yield house


@asynccontextmanager
async def house_of_many_tests(server_url: str, valkey_url: str, template: str, name: str, **changed: Any) -> AsyncIterator[House]:
    """A house on an empty Valkey and a database of its own, that outlives a test; its logs do not: see `House.keep_logs`."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("app", "coordinators", "workers"):
            patch.setattr(f"backend.{module}.configure_logs", lambda *_, **__: None)
        async with copied(server_url, template, name) as url, a_house(database_url=url, valkey_url=valkey_url, **changed) as house:
            yield house


@asynccontextmanager
async def _running(*work: Any) -> AsyncIterator[None]:
    """Processes as tasks: they run meanwhile, and the signals stay the test runner's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    tasks = [asyncio.create_task(each) for each in work]
    await asyncio.sleep(0.05)
    for number, handler in before.items():
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, handler)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Client:
    """Somebody's app: registers, follows the feed by poll, and never waits for anything but an event."""

    def __init__(self, house: House, sub: str, http: httpx.AsyncClient) -> None:
        self.house, self.sub, self.http = house, sub, http

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.http.get(path, params=params)

    async def register(self, *org_codes: str, **headers: str) -> Following:
        answer = await self.http.post("/v1/registrations", json={"providers": org_codes}, headers=headers)
        assert answer.status_code == 202, answer.text
        return Following(self, answer.json())

    async def registration(self, registration_id: str) -> JSON:
        return (await self.get(f"/v1/registrations/{registration_id}")).json()

    async def assets(self, **filters: Any) -> list[JSON]:
        return list((await self.get("/v1/assets", limit=500, **filters)).json()["assets"])


class Following:
    """A registration and its feed from the answer on. What was heard is folded as the contract says."""

    def __init__(self, client: Client, snapshot: JSON) -> None:
        self.client, self.id, self.snapshot = client, snapshot["id"], snapshot
        self.position = snapshot["position"]
        self.events: list[JSON] = []
        self.view = client_fold.Client(snapshot)

    @property
    def path(self) -> str:
        return f"/v1/registrations/{self.id}"

    @property
    def said(self) -> list[str]:
        """The types of all events so far, with the status of those that have one."""
        return [" ".join([event["type"], event["data"].get("status", "")]).strip() for event in self.events]

    def ends(self) -> int:
        """How often it was said so far that this registration has ended; the feed may tell of an earlier one, too."""
        return sum((event["type"], event.get("registration_id")) == ("registration.completed", self.id) for event in self.events)

    def of(self, org_code: str) -> list[str]:
        """The types of this provider's events so far."""
        return [event["type"].removeprefix("provider.") for event in self.events if event.get("org_code") == org_code]

    def status(self, org_code: str) -> tuple[str, str | None]:
        """A provider's status and the code of its error, as the client sees them."""
        provider = self.view.provider({"org_code": org_code})
        return provider["status"], provider["error"] and provider["error"]["code"]

    async def until(self, done: Callable[[], bool], seconds: float = 60) -> Following:
        """Follows the feed until something is so. `seconds`: for a busy machine; who waits for them has found a fault."""
        async with asyncio.timeout(seconds):
            while not done():
                since = f"{self.position['epoch']}:{self.position['offset']}"
                page = (await self.client.get("/v1/events", since=since, wait=5)).json()
                assert page["recovered"], page
                for event in page["events"]:
                    assert event["offset"] == self.position["offset"] + 1
                    self.position = {"epoch": page["epoch"], "offset": event["offset"]}
                    self.events.append(event)
                    self.view.hear(event)
        return self

    async def unheard(self) -> list[JSON]:
        """What the feed holds behind the last event that was heard."""
        since = f"{self.position['epoch']}:{self.position['offset']}"
        return list((await self.client.get("/v1/events", since=since)).json()["events"])

    async def heard(self, said: str, times: int = 1) -> Following:
        """Until an event (and its status, if it has one) has come so often."""
        return await self.until(lambda: self.said.count(said) >= times)

    async def ended(self, status: str, times: int = 1) -> JSON:
        """Until the registration has ended so; then the fold of the events must be a fresh snapshot. Returns that."""
        await self.until(lambda: self.ends() >= times)
        fresh = await self.client.registration(self.id)
        assert {name: value for name, value in fresh.items() if name != "position"} == self.view.registration
        assert fresh["status"] == status, fresh
        return fresh
