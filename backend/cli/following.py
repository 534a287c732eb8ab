"""A client's side of the feed: one user's events over WebSocket, SSE or poll, from a position on, whatever is cut in between.

In: where the API is, a token, a position. Out: every event once and in order; `Lost` when the log no longer holds what is missing, and
then the caller reads the snapshots again and says where to go on. A cut connection is made again with growing, jittered pauses.
Nothing here knows what an event means.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from backend.cli.progress import Event, Position
from backend.errors import MoaError

OPEN_SECONDS = 10.0
SILENCE_SECONDS = 40.0  # the server is heard from each 15 (SSE) or 25 seconds (WebSocket)
POLL_SECONDS = 25  # how long a poll waits for something to come
LARGEST = 16 * 1024 * 1024  # bytes of one message: a whole feed of a person with much
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts
FINAL_CLOSE = 3500  # from here on a client does not come back


class NoAnswer(MoaError):
    """The API cannot be reached, or speaks something else. The message is one plain line."""


class Cut(Exception):
    """This connection is over; another one may work."""


class Lost(Exception):
    """The log no longer has what follows our position."""


@dataclass(frozen=True)
class Api:
    """Where the API is and who asks."""

    url: str  # without a slash at the end
    token: str = field(repr=False)
    http: httpx.AsyncClient = field(repr=False)


Told = tuple[Position, Event]
Connection = Callable[[Api, Position], AsyncGenerator[Told, None]]  # one connection's life; raises `Cut`, `Lost` or `NoAnswer`


async def follow(
    connection: Connection, api: Api, since: Position, reread: Callable[[], Awaitable[Position | None]]
) -> AsyncGenerator[Event, None]:
    """Every event after `since`, for ever.

    `reread` is called when history was lost: it reads the snapshots and returns their position. None: there is nothing to wait for.
    """
    failures, at = 0, since
    while True:
        try:
            async with aclosing(connection(api, at)) as told:
                async for position, event in told:
                    failures, at = 0, position
                    yield event
        except Lost:
            position_read = await reread()
            if position_read is None:
                return
            at = position_read
        except (Cut, httpx.TransportError):
            failures += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # full jitter: many clients lose one server at once


# --- WebSocket: the Centrifuge protocol in JSON ---------------------------------------------------------------------------


class Publication(Struct, frozen=True):
    data: Event
    offset: int = 0


class Subscribed(Struct, frozen=True):
    epoch: str = ""
    offset: int = 0
    recovered: bool = False
    publications: tuple[Publication, ...] = ()


class Fault(Struct, frozen=True):
    code: int
    message: str = ""
    temporary: bool = False


class Push(Struct, frozen=True):
    pub: Publication | None = None
    unsubscribe: dict[str, Any] | None = None


class Reply(Struct, frozen=True):
    """One line of a frame; all of it absent: a ping."""

    id: int = 0
    error: Fault | None = None
    connect: dict[str, Any] | None = None
    subscribe: Subscribed | None = None
    push: Push | None = None


_REPLY = msgspec.json.Decoder(Reply)


async def by_websocket(api: Api, since: Position) -> AsyncGenerator[Told, None]:
    """One WebSocket. Connect and subscribe leave together; the replies come in their order."""
    address = f"ws{api.url.removeprefix('http')}/v1/events"
    try:
        async with connect(
            address, open_timeout=OPEN_SECONDS, close_timeout=1, ping_interval=None, compression=None, max_size=LARGEST, proxy=None
        ) as socket:
            await socket.send(_hello(api.token, since))
            async for told in _conversation(socket, since):
                yield told
    except InvalidStatus as exc:
        if exc.response.status_code < 500:
            raise NoAnswer(f"the feed refuses us (HTTP {exc.response.status_code})") from exc
        raise Cut from exc
    except (WebSocketException, InvalidHandshake, OSError, TimeoutError) as exc:
        received = getattr(exc, "rcvd", None)
        if received is not None and received.code >= FINAL_CLOSE:
            raise NoAnswer(f"the feed refuses us ({received.code}: {received.reason})") from exc
        raise Cut from exc


def _hello(token: str, since: Position) -> str:
    subscribe = {"channel": "feed", "recover": True, "epoch": since.epoch, "offset": since.offset}
    commands = ({"id": 1, "connect": {"token": token}}, {"id": 2, "subscribe": subscribe})
    return b"\n".join(msgspec.json.encode(command) for command in commands).decode()


async def _conversation(socket: ClientConnection, since: Position) -> AsyncIterator[Told]:
    epoch, top = since.epoch, since.offset
    while True:
        frame = await asyncio.wait_for(socket.recv(), SILENCE_SECONDS)
        for line in frame.split("\n") if isinstance(frame, str) else ():
            reply = _decoded(line)
            if reply == Reply():
                await socket.send("{}")
            for publication in _publications(reply):
                if publication.offset > top:
                    top = publication.offset
                    yield Position(epoch, top), publication.data


def _publications(reply: Reply) -> tuple[Publication, ...]:
    if reply.error is not None:
        if reply.error.temporary:
            raise Cut
        raise NoAnswer(f"the feed refuses us ({reply.error.code}: {reply.error.message})")
    if reply.subscribe is not None:
        if not reply.subscribe.recovered:
            raise Lost
        return reply.subscribe.publications
    if reply.push is not None:
        if reply.push.unsubscribe is not None:
            raise Cut  # an irreparable gap: subscribing again tells whether history was lost
        return (reply.push.pub,) if reply.push.pub is not None else ()
    return ()


def _decoded(line: str) -> Reply:
    try:
        return _REPLY.decode(line)
    except msgspec.DecodeError as exc:
        raise Cut from exc


# --- SSE ------------------------------------------------------------------------------------------------------------------


class Opened(Struct, frozen=True):
    """Data of `event: position`."""

    recovered: bool = False


async def by_sse(api: Api, since: Position) -> AsyncGenerator[Told, None]:
    """One event stream."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": f"{since.epoch}:{since.offset}"}
    timeout = httpx.Timeout(OPEN_SECONDS, read=SILENCE_SECONDS)
    async with api.http.stream("GET", "/v1/events", headers=headers, timeout=timeout) as answer:
        _check(answer)
        async for fields in _messages(answer):
            if fields.get("event") == "position":
                if not _read(fields.get("data", ""), Opened).recovered:
                    raise Lost
            elif "data" in fields:
                yield _position(fields.get("id", "")), _read(fields["data"], Event)
    raise Cut


async def _messages(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The fields of each message; comments leave none. Our server writes each field on one line."""
    buffer = b""
    async for chunk in answer.aiter_bytes():
        buffer += chunk
        if len(buffer) > LARGEST:
            raise Cut
        *whole, buffer = buffer.split(b"\n\n")
        for message in whole:
            pairs = (line.partition(": ") for line in message.decode(errors="replace").split("\n"))
            yield {name: value for name, _, value in pairs if name}


def _position(text: str) -> Position:
    epoch, _, offset = text.rpartition(":")
    if not epoch or not offset.isdigit():
        raise Cut
    return Position(epoch, int(offset))


# --- poll -----------------------------------------------------------------------------------------------------------------


class Numbered(Event, frozen=True, kw_only=True):
    offset: int


class Polled(Struct, frozen=True):
    epoch: str
    offset: int
    recovered: bool
    events: tuple[Numbered, ...]


async def by_poll(api: Api, since: Position) -> AsyncGenerator[Told, None]:
    """One poll after the other, each waiting for something to come."""
    timeout = httpx.Timeout(OPEN_SECONDS, read=SILENCE_SECONDS)
    while True:
        asked = {"since": f"{since.epoch}:{since.offset}", "wait": str(POLL_SECONDS)}
        answer = await api.http.get("/v1/events", params=asked, timeout=timeout)
        _check(answer)
        found = _read(answer.text, Polled)
        if not found.recovered:
            raise Lost
        for event in found.events:
            yield Position(found.epoch, event.offset), event
        since = Position(found.epoch, found.offset)


def _check(answer: httpx.Response) -> None:
    if answer.status_code >= 500 or answer.status_code == 429:
        raise Cut
    if answer.status_code != 200:
        raise NoAnswer(f"the feed refuses us (HTTP {answer.status_code})")


def _read(text: str, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as exc:
        raise Cut from exc


TRANSPORTS: dict[str, Connection] = {"websocket": by_websocket, "sse": by_sse, "poll": by_poll}
