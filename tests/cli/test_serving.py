"""What the API's server says of clients that it turns away: one quiet line of ours, whatever they try."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from backend.cli.serving import DrainingServer, PortTaken, config_of, hold_port, listen, metrics_listener
from backend.edge import Edge
from backend.settings import Settings

ODD = {
    "no key": b"GET /v1/events HTTP/1.1\r\nHost: moa\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "old version": b"GET /v1/events HTTP/1.1\r\nHost: moa\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 7\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/v1/events", echo)], middleware=[Middleware(Edge, allowed_origins=frozenset())])
    listener = listen("127.0.0.1", 0)
    server = DrainingServer(config_of(app, drain_seconds=1), app, 1)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def test_a_socket_that_is_refused_before_its_upgrade_is_one_quiet_line(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), capture_logs() as lines:
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{port}/v1/events?token=private", origin="https://evil.example", proxy=None)
        async with connect(f"ws://127.0.0.1:{port}/v1/events", proxy=None) as socket:  # and the server goes on
            await socket.send("hello")
            assert await socket.recv() == "hello"
    assert refused.value.response.status_code == 403
    assert b"origin_not_allowed" in refused.value.response.body
    assert [(line["log_level"], line["event"], line["path"]) for line in lines] == [("info", "request.refused", "/v1/events")]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("request_", ODD.values(), ids=ODD)
async def test_what_is_no_upgrade_at_all_is_refused_without_a_word(port: int, request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with caplog.at_level(logging.INFO):
        writer.write(request_)
        status = await reader.readline()
        await reader.read()
    writer.close()
    assert int(status.split()[1]) in {400, 426}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_while_it_starts_an_api_refuses_and_keeps_nobody_waiting() -> None:
    """To be let in by the system and not answered is the worst of both: a proxy would not turn to another one."""
    ready = asyncio.Event()

    @contextlib.asynccontextmanager
    async def starting(_: Starlette) -> AsyncIterator[None]:
        await ready.wait()
        yield

    app = Starlette(routes=[], lifespan=starting)
    held = hold_port("127.0.0.1", 0)
    server = DrainingServer(config_of(app, drain_seconds=1), app, 1)
    serving = asyncio.create_task(server.serve(sockets=[held]))
    await asyncio.sleep(0.05)  # far more than a start needs that waits for nothing
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*held.getsockname())
    ready.set()
    while not server.started:
        await asyncio.sleep(0.001)
    _, writer = await asyncio.open_connection(*held.getsockname())
    writer.close()
    server.should_exit = True
    await serving


async def test_of_two_who_take_hold_of_one_port_at_once_the_later_one_says_so() -> None:
    app = Starlette(routes=[])
    server = DrainingServer(config_of(app, drain_seconds=1), app, 1)
    with hold_port("127.0.0.1", 0) as first, contextlib.suppress(PortTaken), hold_port(*first.getsockname()) as second:
        first.listen()
        with pytest.raises(PortTaken):
            await server.serve(sockets=[second])
    with listen("127.0.0.1", 0) as mine, pytest.raises(PortTaken):
        hold_port(*mine.getsockname())


def test_metrics_are_shown_on_the_inherited_socket_else_on_the_port_that_is_set_else_nowhere() -> None:
    assert metrics_listener(None, Settings()) is None
    with metrics_listener(None, Settings(metrics_port=0)) as chosen:
        assert chosen.getsockname()[0] == "127.0.0.1"
    with listen("127.0.0.1", 0) as inherited:
        found = metrics_listener(inherited.fileno(), Settings(metrics_port=1))
        assert found.getsockname() == inherited.getsockname()
        found.detach()
