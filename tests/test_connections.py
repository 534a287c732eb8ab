"""What a client may cost us before we know who it is: a bounded header, a bounded wait, on real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import process_time

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from backend import connections
from backend.cli.serving import DrainingServer, config_of, listen
from backend.connections import HEAD_BYTES, HEAD_LINES
from tests.realtime.given import until

PIECE = b"x" * 256 * 1024
GET = b"GET / HTTP/1.1\r\nHost: moa\r\n"
OK, TOO_LARGE = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
SHORT = 0.05  # seconds; the real bounds are seconds of real time, too

Say = Callable[..., Awaitable[bytes]]


async def size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


async def endless(_: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield PIECE
            await asyncio.sleep(0)

    return StreamingResponse(chunks())


async def talkative(websocket: WebSocket) -> None:
    """Gives up at some time, and says goodbye to somebody who does not hear it."""
    await websocket.accept()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            while True:
                await websocket.send_bytes(PIECE)
    await websocket.close()


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[tuple[DrainingServer, int]]:
    app = Starlette(
        routes=[
            Route("/", size, methods=["GET", "POST"]),
            Route("/endless", endless),
            WebSocketRoute("/socket", echo),
            WebSocketRoute("/talkative", talkative),
        ]
    )
    listener = listen("127.0.0.1", 0)
    server = DrainingServer(config_of(app, drain_seconds=1), app, 1)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield server, listener.getsockname()[1]
    server.should_exit = True
    await serving


@pytest.fixture
def port(server: tuple[DrainingServer, int]) -> int:
    return server[1]


@pytest.fixture
async def say(port: int) -> AsyncIterator[Say]:
    """Writes the parts one after the other; returns everything that is answered until the connection ends."""
    writers = []

    async def say(*parts: bytes, pause: float = 0.01) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        async with asyncio.timeout(3):
            return await reader.read()

    yield say
    for writer in writers:
        writer.close()


def padded(length: int, *, end: bytes = b"Connection: close\r\n\r\n") -> bytes:
    """A request whose line and headers have `length` bytes."""
    return GET + b"X-Padding: " + b"x" * (length - len(GET) - len(end) - 13) + b"\r\n" + end


async def test_a_header_may_have_64_kib_and_no_byte_more(say: Say) -> None:
    fits, exceeds = padded(HEAD_BYTES), padded(HEAD_BYTES + 1)
    assert (len(fits), len(exceeds)) == (65_536, 65_537)
    for cut in (len(fits), 1, 40_000, len(fits) - 1):
        assert (await say(fits[:cut], fits[cut:])).startswith(OK), cut
        assert (await say(exceeds[:cut], exceeds[cut:])).startswith(TOO_LARGE), cut


async def test_a_refusal_is_a_document_that_ends_the_connection(say: Say) -> None:
    head, _, body = (await say(padded(HEAD_BYTES + 1))).partition(b"\r\n\r\n")
    document = orjson.loads(body)
    assert (document["status"], document["code"]) == (431, "headers_too_large")
    assert document["request_id"].encode() in head
    assert b"content-type: application/problem+json" in head.lower()
    assert b"connection: close" in head.lower()


@pytest.mark.parametrize("endless", [GET + b"X: ", b"GET /", b"\r\n", GET], ids=["header", "path", "blank lines", "lines"])
async def test_what_never_ends_costs_no_time_of_the_loop(say: Say, endless: bytes) -> None:
    filling = b"\r\n" * 500_000 if endless == b"\r\n" else b"x: y\r\n" * 170_000 if endless == GET else b"x" * 1_000_000
    began = process_time()
    answer = await say(endless, *[filling] * 5, pause=0)
    assert answer.startswith(TOO_LARGE)
    assert process_time() - began < 0.5


async def test_a_header_may_have_a_hundred_lines(say: Say, caplog: pytest.LogCaptureFixture) -> None:
    def lines(count: int) -> bytes:
        return GET + b"x: y\r\n" * (count - 2) + b"Connection: close\r\n\r\n"

    with caplog.at_level(logging.INFO):
        assert (await say(lines(HEAD_LINES))).startswith(OK)
        answer = await say(lines(HEAD_LINES + 1))
    assert answer.startswith(TOO_LARGE)
    assert b"connection: close" in answer.lower()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_bodies_and_further_requests_are_not_counted(say: Say) -> None:
    body = b"x" * 300_000
    post = b"POST / HTTP/1.1\r\nHost: moa\r\nContent-Length: 300000\r\n\r\n" + body
    last = padded(HEAD_BYTES - 100)
    answer = await say(post + GET + b"\r\n" + post, GET + b"\r\n" + last[:30_000], last[30_000:])
    assert answer.count(OK) == 5
    assert answer.count(b"\r\n\r\n300000") == 2


async def test_who_says_nothing_and_who_does_not_end_a_header_are_left(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
    assert await say() == b""
    assert await say(b"\r\n") == b""
    with pytest.raises((ConnectionError, TimeoutError)):
        await say(GET, *[b"X: y\r\n"] * 20, pause=SHORT / 5)
    for begun in (b"G", GET):
        answer = await say(GET + b"\r\n", begun)
        assert answer.startswith(OK), "a second request has its own time"
        assert answer.count(OK) == 1
    assert (await say(GET + b"\r\n", b"\r\n")).startswith(OK)


async def test_who_waits_between_two_requests_is_left_alone(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
    assert (await say(GET + b"\r\n", GET + b"Connection: close\r\n\r\n", pause=SHORT * 3)).count(OK) == 2
    slow = b"POST / HTTP/1.1\r\nHost: moa\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    assert (await say(slow, b"a", b"b", b"c", pause=SHORT * 2)).endswith(b"\r\n\r\n3"), "bodies have bounds of their own"


async def test_sockets_live_on_and_their_headers_are_bounded_too(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)
    url = f"ws://127.0.0.1:{port}/socket"
    async with connect(url, proxy=None) as socket:
        await asyncio.sleep(SHORT * 3)
        await socket.send("x" * 2 * 1024)
        assert len(await socket.recv()) == 2048
    async with connect(url, proxy=None, additional_headers={"x": "y" * (8192 - 5)}):
        pass
    for too_much in ({f"x-{number}": "y" for number in range(HEAD_LINES)}, {"x": "y" * HEAD_BYTES}, {"x": "y" * (8192 - 4)}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None, additional_headers=too_much)
        assert refused.value.response.status_code == 431


UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize("asked", [b"GET /endless HTTP/1.1\r\n", b"GET /talkative HTTP/1.1\r\n" + UPGRADE], ids=["stream", "socket"])
async def test_who_reads_nothing_of_an_answer_is_left(
    server: tuple[DrainingServer, int], asked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", SHORT)
    serving, port = server
    before = set(serving.server_state.connections)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(asked + b"Host: moa\r\n\r\n")
    await until(lambda: bool(serving.server_state.connections - before))
    await until(lambda: not serving.server_state.connections - before)
    writer.close()
    with suppress(OSError):  # it was cut off
        await writer.wait_closed()


async def test_who_reads_slowly_is_served(server: tuple[DrainingServer, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 4 * SHORT)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # a large one asks for more only when much of it was read
    small.connect(("127.0.0.1", server[1]))
    reader, writer = await asyncio.open_connection(sock=small, limit=1)
    writer.write(b"GET /endless HTTP/1.1\r\nHost: moa\r\n\r\n")
    for _ in range(50):
        assert await reader.read(16 * 1024)
        await asyncio.sleep(SHORT / 5)
    writer.close()
