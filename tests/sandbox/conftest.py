"""A sandbox per test on a free loopback port, served by uvicorn as `moa sandbox` serves it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn

from backend.clock import Clock, ManualClock
from backend.providers.sandbox.app import create_app
from backend.providers.sandbox.options import SandboxOptions
from tests.sandbox.operator import Operator

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)  # a Sunday, 12:00 in KST


@asynccontextmanager
async def serving(options: SandboxOptions, clock: Clock) -> AsyncIterator[str]:
    """The sandbox's address while the block runs."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio sets no TCP_NODELAY
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(options, clock), log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.001)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await running
        listener.close()


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
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        yield Operator(http, url, clock)
