"""A sandbox per test on a free loopback port, served by uvicorn's protocol as `moa sandbox` serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from backend.clock import Clock, ManualClock
from backend.providers.sandbox.app import create_app
from backend.providers.sandbox.options import SandboxOptions
from tests.sandbox.operator import Operator

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)  # a Sunday, 12:00 in KST


@asynccontextmanager
async def serving(options: SandboxOptions, clock: Clock) -> AsyncIterator[str]:
    """The sandbox's address while the block runs: uvicorn's protocol without its server, whose ticks would cost each test 0.2 s."""
    config = uvicorn.Config(create_app(options, clock), log_level="critical", access_log=False, http="httptools", ws="none", lifespan="off")
    config.load()
    loop, state = asyncio.get_running_loop(), ServerState()
    protocol = partial(config.http_protocol_class, config=config, server_state=state, app_state={}, _loop=loop)
    server = await loop.create_server(protocol, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def options() -> SandboxOptions:
    return SandboxOptions(without_latency=True, approve_after_ms=0)


@pytest.fixture
async def url(options: SandboxOptions, clock: ManualClock) -> AsyncIterator[str]:
    async with serving(options, clock) as address:
        yield address


@pytest.fixture
async def operator(url: str, clock: ManualClock) -> AsyncIterator[Operator]:
    async with httpx.AsyncClient(trust_env=False, timeout=10, verify=False) as http:
        yield Operator(http, url, clock)
