"""Whose name server is silent waits alone."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import httpx
import pytest

from backend.providers.calling.wire import failure_of, open_wire
from backend.providers.outcomes import Failure
from tests.providers.given import provider
from tests.providers.rogue import Talk, rogue


async def test_silent_name_servers_of_many_hold_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than the loop has threads for."""
    spoken, real = threading.Event(), socket.getaddrinfo

    def looked_up(host: Any, *more: Any, **how: Any) -> Any:
        if str(host).startswith("silent"):
            spoken.wait(10)
            raise socket.gaierror("no such name")
        return real("127.0.0.1" if host == "well.example" else host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)

    async def get(name: str, port: str) -> int:
        async with open_wire(provider(f"http://{name}:{port}")) as wire:
            return (await wire.handle_async_request(httpx.Request("GET", f"http://{name}:{port}/"))).status_code

    async with rogue(Talk.answer) as server:
        port = server.url.rpartition(":")[2]
        waiting = [asyncio.create_task(get(f"silent-{number}.example", port)) for number in range(40)]
        try:
            await asyncio.sleep(0.1)
            async with asyncio.timeout(2):
                assert await get("well.example", port) == 200
            assert not any(task.done() for task in waiting)
        finally:
            spoken.set()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {failure_of(each) for each in ended if isinstance(each, Exception)} == {Failure.CONNECT}
