"""What leaves for a receiver, and what its answer becomes; over real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from backend.webhooks.addresses import Reach
from backend.webhooks.posting import Poster
from backend.webhooks.retrying import NoAnswer

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(answer: bytes | Answer, requests: list[bytes] | None = None) -> AsyncIterator[str]:
    """The URL of a server that answers each request by these bytes, or as the function says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                body = await reader.readexactly(length)
                if requests is not None:
                    requests.append(head + body)
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(reader, writer)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster(reach=Reach.LOOPBACK, deadline=0.5, connections=10)
    yield poster
    await poster.aclose()


async def test_a_call_carries_our_headers_and_nothing_else(poster: Poster) -> None:
    requests: list[bytes] = []
    async with receiver(b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=b\r\n\r\n", requests) as url:
        for _ in range(2):
            assert await poster.post(url, {"webhook-id": "msg_1"}, b'{"a":1}') == 204
    head, _, body = requests[1].partition(b"\r\n\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert head.startswith(b"POST /hook HTTP/1.1")
    assert body == b'{"a":1}'
    assert (
        names
        == {b"host", b"accept", b"accept-encoding", b"user-agent", b"connection", b"webhook-id", b"content-type", b"content-length"} & names
    )
    assert {b"webhook-id", b"content-type"} <= names
    assert b"cookie" not in names


@pytest.mark.parametrize("status", [200, 301, 307, 410, 500])
async def test_the_status_is_the_answer_and_no_redirect_is_followed(poster: Poster, status: int) -> None:
    requests: list[bytes] = []
    async with receiver(b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\nok" % status, requests) as url:
        assert await poster.post(url, {}, b"{}") == status
    assert len(requests) == 1


async def test_the_end_of_each_call_is_counted() -> None:
    counted: list[str] = []
    poster = Poster(reach=Reach.LOOPBACK, deadline=0.5, connections=10, count=counted.append)
    for status in (204, 302, 410, 503):
        async with receiver(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) as url:
            await poster.post(url, {}, b"{}")
    await poster.post("http://127.0.0.1:1/", {}, b"{}")
    await poster.post("http://10.0.0.1/", {}, b"{}")
    await poster.aclose()
    assert counted == ["delivered", "refused", "refused", "refused", "cannot_connect", "address_not_allowed"]


async def test_an_endless_body_is_not_read(poster: Poster) -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with receiver(flood) as url:
        assert await poster.post(url, {}, b"{}") == 200
    assert sent < 20_000_000


async def test_a_receiver_that_is_silent_or_drips_is_left_at_the_deadline(poster: Poster) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with receiver(drip) as url:
        started = time.monotonic()
        assert await poster.post(url, {}, b"{}") is NoAnswer.DEADLINE
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"HTTP/1.1 banana\r\n\r\n", b""])
async def test_what_is_not_http_is_no_answer(poster: Poster, garbage: bytes) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        await writer.drain()

    async with receiver(talk) as url:
        assert isinstance(await poster.post(url, {}, b"{}"), NoAnswer)


async def test_a_port_where_nobody_listens_cannot_be_connected(poster: Poster) -> None:
    assert await poster.post("http://127.0.0.1:1/", {}, b"{}") is NoAnswer.CONNECT


async def test_a_name_that_does_not_exist_cannot_be_connected(poster: Poster) -> None:
    assert await poster.post("https://nobody.invalid/", {}, b"{}") in {NoAnswer.CONNECT, NoAnswer.DEADLINE}


async def test_plain_http_behind_https_is_a_fault_of_tls(poster: Poster) -> None:
    async with receiver(b"HTTP/1.1 200 OK\r\n\r\n") as url:
        assert await poster.post(url.replace("http:", "https:"), {}, b"{}") in {NoAnswer.TLS, NoAnswer.DEADLINE, NoAnswer.CONNECT}


async def test_an_address_that_is_not_allowed_is_refused_before_anything_is_sent() -> None:
    requests: list[bytes] = []
    poster = Poster(reach=Reach.PUBLIC, deadline=0.5, connections=10)
    async with receiver(b"HTTP/1.1 200 OK\r\n\r\n", requests) as url:
        assert await poster.post(url.replace("http:", "https:"), {}, b"{}") is NoAnswer.ADDRESS
    await poster.aclose()
    assert requests == []


async def test_a_name_that_leads_inside_is_refused_at_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS says what it likes; the connection goes nowhere."""
    connected: list[object] = []
    poster = Poster(reach=Reach.PUBLIC, deadline=2, connections=10)

    async def inside(host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
        connected.append(host)
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 6, "flags": 4}]

    monkeypatch.setattr(poster._names, "resolve", inside)
    assert await poster.post("https://hooks.example/", {}, b"{}") is NoAnswer.ADDRESS
    assert connected == ["hooks.example"]
    await poster.aclose()
