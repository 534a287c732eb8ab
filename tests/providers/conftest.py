"""The sandbox on a free port for the tests of this room, and the clients of a whole process to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn

from backend.clock import ManualClock
from backend.providers.clients import http_clients
from backend.providers.directory import directory_of
from backend.providers.sandbox.app import create_app
from backend.providers.sandbox.options import SandboxOptions
from backend.settings import Settings
from tests.providers.given import NOW
from tests.providers.journey import Journey


@pytest.fixture(scope="session")
def sandbox_clock() -> ManualClock:
    """Of the sandbox and of the clients; it only moves on."""
    return ManualClock(NOW)


@pytest.fixture(scope="session")
async def sandbox(sandbox_clock: ManualClock) -> AsyncIterator[str]:
    """Its address. No latency, and people sign at once."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    app = create_app(SandboxOptions(without_latency=True, approve_after_ms=0), sandbox_clock)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = server.force_exit = True
    await running
    listener.close()


@pytest.fixture
async def journey(sandbox: str, sandbox_clock: ManualClock) -> AsyncIterator[Journey]:
    """Clients of a process that has just started, to a sandbox whose behaviours and calls are reset."""
    settings = Settings(_env_file=None, sandbox_url=sandbox, call_deadline=5.0)  # type: ignore[call-arg]
    directory = directory_of(settings)
    async with (
        http_clients(lambda: directory, settings, sandbox_clock) as clients,
        httpx.AsyncClient(base_url=sandbox, trust_env=False) as steering,
    ):
        await steering.post("/sandbox/reset")
        yield Journey(directory, settings, clients, sandbox_clock, steering)
