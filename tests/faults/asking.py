"""Asks an API for everything that it offers, many at once and cheaply, and writes down how long each waited for its first word.

In: an API's address, a kind of request. Out: `Answered`. A client that took as much of the processor as a library's would measure itself:
these speak HTTP/1.1 and the Centrifuge protocol in a few lines, over one connection each. What is asked for need not exist: to say so, the
API has to ask the same engines.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

import jwt
import orjson

from backend.clock import SystemClock
from tests.faults.stage import BANK
from tests.faults.supervisor import SECRET

PATIENCE = 30.0  # seconds; far more than any answer may take, so that silence is measured and not only noticed
SILENT, CUT = 0, -1  # as statuses: nothing came in `PATIENCE`; the connection was refused or ended

_NUMBERS = itertools.count(1)
_ID = "01J00000000000000000000000"
_HOOK = "wh_" + _ID
_OPCODE_TEXT = 0x81


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One thing to ask for. `waits`: the seconds that it asks the API to wait."""

    method: str = "GET"
    path: str
    json: object = None
    headers: Mapping[str, str] | None = None
    ops: bool = False
    websocket: bool = False
    waits: float = 0.0

    @property
    def name(self) -> str:
        how = "WebSocket" if self.websocket else "SSE" if self.headers else self.method
        return f"{how} {self.path.partition('?')[0].replace(_ID, '{id}')}{' wait' if self.waits else ''}"


@dataclass(frozen=True)
class Answered:
    """`seconds` to the first word, less what was asked for."""

    kind: Kind
    status: int
    seconds: float
    honest: bool  # a success, the client's own fault, or a "not now" that says when to come back

    @property
    def well(self) -> bool:
        """Whether the API could do what it is there for."""
        return 0 < self.status < 500


_SSE = {"Accept": "text/event-stream"}
_REASON = {"reason": "a rehearsal"}

KINDS: tuple[Kind, ...] = (
    Kind(path="/v1/providers"),
    Kind(method="POST", path="/v1/registrations", json={"providers": [BANK]}),
    Kind(path="/v1/registrations"),
    Kind(path=f"/v1/registrations/reg_{_ID}"),
    Kind(method="POST", path=f"/v1/registrations/reg_{_ID}/retry"),
    Kind(method="DELETE", path=f"/v1/registrations/reg_{_ID}"),
    Kind(path="/v1/assets"),
    Kind(path="/v1/links"),
    Kind(method="DELETE", path=f"/v1/links/{BANK}"),
    Kind(method="DELETE", path="/v1/me"),
    Kind(method="POST", path="/v1/refresh", json={}),
    Kind(path=f"/v1/refresh/ref_{_ID}"),
    Kind(path="/v1/events"),
    Kind(path="/v1/events?since=unknown:1&wait=3", waits=3.0),
    Kind(path="/v1/events", headers=_SSE),
    Kind(path="/v1/events", websocket=True),
    Kind(method="POST", path="/v1/webhooks", json={"url": "http://127.0.0.1:9/hook"}),
    Kind(path="/v1/webhooks"),
    Kind(path=f"/v1/webhooks/{_HOOK}"),
    Kind(method="DELETE", path=f"/v1/webhooks/{_HOOK}"),
    Kind(method="POST", path=f"/v1/webhooks/{_HOOK}/secret"),
    Kind(method="POST", path=f"/v1/webhooks/{_HOOK}/test"),
    Kind(path="/ops/breakers", ops=True),
    Kind(path="/ops/breakers/history", ops=True),
    Kind(method="PUT", path=f"/ops/breakers/{BANK}", json={"mode": "auto", **_REASON}, ops=True),
    Kind(path="/ops/batch", ops=True),
    Kind(path="/ops/batch/plan", ops=True),
    Kind(method="POST", path="/ops/batch/resume", json={"org_code": BANK}, ops=True),
    Kind(path="/ops/traffic", ops=True),
    Kind(path="/ops/statistics", ops=True),
    Kind(path="/ops/alerts", ops=True),
    Kind(path="/ops/events", ops=True),
    Kind(path="/ops/events", headers=_SSE, ops=True),
    Kind(path="/ops/events", websocket=True, ops=True),
    Kind(path="/metrics"),
    Kind(path="/metrics/all"),
    Kind(path="/healthz"),
    Kind(path="/readyz"),
)


def token(user: str) -> str:
    """For everything, an hour long."""
    exp = (SystemClock().now() + timedelta(hours=1)).timestamp()
    return jwt.encode({"sub": user, "scope": "user ops", "exp": exp}, SECRET, algorithm="HS256")


async def ask(url: str, kind: Kind, *, user: str = "") -> Answered:
    """One request of a user, by default of one whom nobody has seen before."""
    user = user or f"asker-{next(_NUMBERS)}"
    address, began = urlsplit(url), time.monotonic()
    status, honest = SILENT, False
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PATIENCE + kind.waits):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            status, honest = await (_socket if kind.websocket else _request)(reader, writer, kind, user)
    except (OSError, asyncio.IncompleteReadError):
        status = CUT
    except TimeoutError:
        pass
    finally:
        if writer is not None:
            writer.transport.abort()
    return Answered(kind, status, time.monotonic() - began - kind.waits, honest)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Kind, user: str) -> tuple[int, bool]:
    body = b"" if kind.json is None else orjson.dumps(kind.json)
    more = {"Content-Type": "application/json"} if body else {}
    writer.write(_head(kind, user, more | {"Connection": "close", "Content-Length": str(len(body))}) + body)
    status, headers = await _answer(reader)
    return status, status < 500 or (status == 503 and (b"retry-after:" in headers or kind.path == "/readyz"))


async def _socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Kind, user: str) -> tuple[int, bool]:
    """Connects and subscribes; what counts is the answer to the second. A close of the socket says when to come back by its code."""
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    writer.write(_head(kind, user, upgrade))
    status, headers = await _answer(reader)
    if status != 101:
        return status, b"retry-after:" in headers
    channel = "ops" if kind.ops else "feed"
    commands = ({"id": 1, "connect": {"token": token(user)}}, {"id": 2, "subscribe": {"channel": channel, "recover": True, "epoch": "_"}})
    writer.write(_frame(b"\n".join(map(orjson.dumps, commands))))
    while True:
        first, length = await reader.readexactly(2)
        if length >= 126:
            length = struct.unpack(">H", await reader.readexactly(2))[0]
        text = await reader.readexactly(length)
        if first != _OPCODE_TEXT:
            return CUT, False
        for reply in map(orjson.loads, text.split(b"\n")):
            if "error" in reply:
                return 503, bool(reply["error"].get("temporary"))
            if "subscribe" in reply:
                return 200, True


def _frame(text: bytes) -> bytes:
    """As clients send it, with a mask of zeros."""
    return struct.pack(">BBH", _OPCODE_TEXT, 0x80 | 126, len(text)) + bytes(4) + text


def _head(kind: Kind, user: str, more: Mapping[str, str]) -> bytes:
    headers = {"Host": "api", "Authorization": f"Bearer {token(user)}", **(kind.headers or {}), **more}
    lines = (f"{kind.method} {kind.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
    return "\r\n".join((*lines, "", "")).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and headers, in small letters."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    return int(head.split(b" ", 2)[1]), head
