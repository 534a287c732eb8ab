"""How an answer leaves, or does not: the connection under one request, and every way of breaking it.

In: an answer, a mode. Out: bytes, silence, or a cut connection; the call's entry in the log is completed here. Cutting needs the
server's transport, which uvicorn's `receive` belongs to; under another server such a call ends with 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.types import Message, Receive, Send

from backend.providers.sandbox.calls import CLIENT_GONE, NO_ANSWER, Call
from backend.providers.sandbox.steering import Mode
from backend.providers.sandbox.wire import Answer, Request

DRIP_SECONDS: Final = 0.5  # per byte
OVERSIZE_BYTES: Final = 64 * 1024 * 1024
LONGEST_HANG: Final = 600.0  # seconds; then even `hang` lets go
_CUT_SECONDS: Final = 5.0  # that a client may take to read the last bytes
_CHUNK: Final = b"A" * 65_536
_JSON: Final = b"application/json; charset=UTF-8"

# What `garbage` sends, in turn: none of it is the standard's JSON.
GARBAGE: Final = (
    b"<html><body>Service</body></html>",
    b'{"rsp_code":"00000","rsp_msg":"',
    bytes(range(128, 256)) * 4,
    b"[" * 100_000,
    b'{"rsp_code":0,"rsp_msg":null}',
    b"",
    b'["00000"]',
)


class Exchange:
    """One request and its connection."""

    def __init__(self, *, receive: Receive, send: Send, call: Call, started: float) -> None:
        self.call = call
        self._receive = receive
        self.send = send
        self._started = started
        self._cycle: Any = getattr(receive, "__self__", None)

    async def body(self, most: int) -> bytes | None:
        """The request's body; None: it is larger than `most` bytes, or the client has gone."""
        whole = bytearray()
        while len(whole) <= most and (message := await self._receive())["type"] == "http.request":
            whole += message.get("body", b"")
            if len(whole) <= most and not message.get("more_body", False):
                return bytes(whole)
        return None

    def finish(self, status: int, now: float, rsp_code: str | None = None) -> None:
        """Completes the entry in the log."""
        self.call.status = status
        self.call.rsp_code = None if status in (CLIENT_GONE, NO_ANSWER) else rsp_code
        self.call.ms = round((now - self._started) * 1000, 3)

    @property
    def is_abandoned(self) -> bool:
        """Whether the connection is gone though the answer is not complete."""
        return bool(getattr(self._cycle, "disconnected", False))

    async def gone(self, longest: float) -> None:
        """Waits for the connection to end, at most `longest` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                while (await self._receive())["type"] != "http.disconnect":
                    pass

    async def cut(self, *, reset: bool = False, last_words: bytes = b"") -> None:
        """Ends the connection now, with an RST if `reset`, after bytes that bypass HTTP's framing."""
        transport = getattr(self._cycle, "transport", None)
        if transport is None:
            raise ConnectionAbortedError("this server's connections cannot be cut")
        if reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.write(last_words)
            transport.close()
        await self.gone(_CUT_SECONDS)


def head(answer: Answer, request: Request, length: int | None) -> Message:
    """The start of a response; `length` None: not told. The tran-id comes back, on errors too (standard, section 2)."""
    headers = [(b"content-type", _JSON), (b"cache-control", b"no-store")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    if request.tran_id is not None:
        headers.append((b"x-api-tran-id", request.tran_id.encode()))
    if answer.retry_after is not None:
        headers.append((b"retry-after", str(answer.retry_after).encode()))
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


async def deliver(exchange: Exchange, request: Request, answer: Answer, mode: Mode, turn: int) -> int:
    """Sends an answer the way the mode says; `turn` varies what varies. Returns the status that was given."""
    body = orjson.dumps(answer.body)
    match mode:
        case Mode.RESET:
            await exchange.cut(reset=True)
            return NO_ANSWER
        case Mode.TRUNCATED:
            # No Content-Length, so that HTTP itself cannot tell: a client must notice by the JSON.
            opening = b"HTTP/1.1 %d OK\r\ncontent-type: %s\r\nconnection: close\r\n\r\n" % (answer.status, _JSON)
            await exchange.cut(last_words=opening + body[: len(body) // 2])
            return answer.status
        case Mode.DRIP:
            return await _stream(exchange, head(answer, request, len(body)), _drops(body))
        case Mode.OVERSIZE:
            return await _stream(exchange, head(Answer(200, {}), request, None), _flood())
        case Mode.GARBAGE:
            answer, body = Answer(200, {}), GARBAGE[turn % len(GARBAGE)]
    await exchange.send(head(answer, request, len(body)))
    await exchange.send({"type": "http.response.body", "body": body})
    return answer.status


async def _stream(exchange: Exchange, start: Message, parts: AsyncIterator[bytes]) -> int:
    await exchange.send(start)
    async for part in parts:
        if exchange.is_abandoned:
            return CLIENT_GONE
        await exchange.send({"type": "http.response.body", "body": part, "more_body": True})
    await exchange.send({"type": "http.response.body", "body": b""})
    return int(start["status"])


async def _drops(body: bytes) -> AsyncIterator[bytes]:
    for n in range(len(body)):
        yield body[n : n + 1]
        await asyncio.sleep(DRIP_SECONDS)


async def _flood() -> AsyncIterator[bytes]:
    yield b'{"rsp_code":"00000","rsp_msg":"'
    for _ in range(OVERSIZE_BYTES // len(_CHUNK)):
        yield _CHUNK
    yield b'"}'
