"""The feed over HTTP: WebSocket, SSE and poll on one path, by what the client asks for.

In: a request with a token, a position, a wish to wait. Out: the same events in the same order, each in its transport's envelope.
Refusals are raised as `Refused` and become problem documents elsewhere; a WebSocket hears them in its own protocol instead.
Nothing here parses an event or reads PostgreSQL.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from backend.clock import Clock
from backend.edge import own_wait
from backend.errors import Problem, Refused
from backend.events import Position, to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.realtime.audience import OPS, USERS, Audience
from backend.realtime.feed import FeedReader, Slice
from backend.realtime.hub import Hub
from backend.realtime.mailbox import Lost, Mailbox
from backend.realtime.merging import Entry
from backend.realtime.protocol import CloseCode
from backend.realtime.sockets import Socket
from backend.realtime.streams import EventStream
from backend.realtime.tallies import Transport

LONGEST_WAIT = 30.0  # seconds

_REFUSES = re.compile(r";q=0(\.0{0,3})?(;|$)")
_POSITION = re.compile(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,15})")
_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept, Authorization"}


@dataclass(frozen=True, kw_only=True)
class RealtimeDeps:
    """What the transports are built from."""

    feed: FeedReader
    hub: Hub
    verifier: TokenVerifier
    clock: Clock
    version: str  # ours, told to WebSocket clients


def routes(deps: RealtimeDeps) -> list[BaseRoute]:
    """`/v1/events` and `/ops/events`, each for WebSocket, SSE and poll."""
    return [route for audience in (USERS, OPS) for route in _routes(deps, audience)]


def _routes(deps: RealtimeDeps, audience: Audience) -> list[BaseRoute]:
    async def websocket(connection: WebSocket) -> None:
        socket = Socket(connection, audience=audience, hub=deps.hub, verifier=deps.verifier, clock=deps.clock, version=deps.version)
        await socket.run()

    async def events(request: Request) -> Response:
        identity = await identify(request, deps.verifier, scope=audience.scope)
        if request.method == "GET" and wants_stream(request):
            return await sse(request, deps, audience, identity)
        return await poll(request, deps, audience.feed(identity))

    return [
        WebSocketRoute(audience.path, websocket, name=f"{audience.channel}-websocket"),
        Route(audience.path, events, methods=["GET"], name=f"{audience.channel}-events"),
    ]


def wants_stream(request: HTTPConnection) -> bool:
    """Whether the client asks for SSE. A weight of 0 says that it does not (RFC 9110, 12.4.2)."""
    ranges = request.headers.get("accept", "").lower().replace(" ", "").split(",")
    return any(kind == "text/event-stream" and not _REFUSES.search(f";{how}") for kind, _, how in (each.partition(";") for each in ranges))


def position_asked(request: HTTPConnection) -> Position | None:
    """`Last-Event-ID`, which a browser keeps up to date, before `?since=`. None: neither. Raises `Refused` for anything malformed."""
    for name, text in (("Last-Event-ID", request.headers.get("last-event-id")), ("since", request.query_params.get("since"))):
        if text:
            found = _POSITION.fullmatch(text)
            if found is None:
                raise malformed(name, "must be <epoch>:<offset>")
            return Position(found[1], int(found[2]))
        if text is not None and name == "since":
            raise malformed(name, "must be <epoch>:<offset>")
    return None


def wait_asked(request: HTTPConnection) -> float:
    """Seconds; 0 when nothing is asked. Raises `Refused` for anything that is not a number from 0 to 30."""
    text = request.query_params.get("wait", "0")
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) > LONGEST_WAIT:
        raise malformed("wait", f"must be a number of seconds from 0 to {LONGEST_WAIT:.0f}")
    return float(text)


def malformed(field: str, message: str) -> Refused:
    return Refused(Problem.MALFORMED_REQUEST, errors=({"field": field, "message": message},))


# --- SSE --------------------------------------------------------------------------------------------------------------


async def sse(request: Request, deps: RealtimeDeps, audience: Audience, identity: Identity) -> EventStream:
    """A stream that lives as long as the token. Raises `Refused` before the first byte, never after."""
    since = position_asked(request)
    owner = audience.owner(identity)
    if not deps.hub.admit(owner):
        raise Refused(Problem.RATE_LIMITED, "This user has too many open streams and sockets.")
    mailbox = Mailbox()
    try:
        deps.hub.enrol(mailbox, Transport.SSE)
        missed = await deps.hub.attach(audience.feed(identity), mailbox, since)
    except BaseException:
        deps.hub.withdraw(mailbox)
        deps.hub.release(owner)
        raise
    return EventStream(
        hub=deps.hub,
        mailbox=mailbox,
        feed=audience.feed(identity),
        since=since,
        missed=missed,
        seconds=(identity.expires_at - deps.clock.now()).total_seconds(),
        release=lambda: deps.hub.release(owner),
    )


# --- poll -------------------------------------------------------------------------------------------------------------


async def poll(request: Request, deps: RealtimeDeps, user_id: str) -> Response:
    """What came after `since`; with `wait`, the first of it as soon as it comes."""
    since, wait = position_asked(request), wait_asked(request)
    if since is None or wait == 0 or request.method != "GET":
        return _polled(await deps.feed.read(user_id, since), leaving=deps.hub.draining)
    mailbox = Mailbox()
    try:
        deps.hub.enrol(mailbox, Transport.POLL)
        missed = await deps.hub.attach(user_id, mailbox, since)
        if not missed.entries and missed.recovered:
            with own_wait(request):
                await _wait(request, mailbox, wait)
            missed = await _found(deps, user_id, mailbox, missed)
    finally:
        deps.hub.withdraw(mailbox)
    return _polled(missed, leaving=deps.hub.draining)


async def _wait(request: Request, mailbox: Mailbox, seconds: float) -> None:
    """Until something came, the time is over, or the client has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks: set[asyncio.Task[Any]] = {asyncio.create_task(mailbox.wait()), asyncio.create_task(gone())}
    try:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _found(deps: RealtimeDeps, user_id: str, mailbox: Mailbox, before: Slice) -> Slice:
    """What the mailbox holds, as if it had been read from the log."""
    items = mailbox.take()
    if any(isinstance(item, Lost) for item in items) or mailbox.closing is CloseCode.SLOW:
        return await deps.feed.read(user_id, before.position)
    entries = tuple(item for item in items if isinstance(item, tuple))
    top = entries[-1][0] if entries else before.position.offset
    return Slice(Position(before.position.epoch, top), True, entries)


def _polled(found: Slice, *, leaving: bool) -> Response:
    """`leaving`: this process is about to close its connections, so the next poll had better come over another one."""
    head = {"epoch": found.position.epoch, "offset": found.position.offset, "recovered": found.recovered}
    body = b'%b,"events":[%b]}' % (to_json(head)[:-1], b",".join(map(_numbered, found.entries)))
    headers = {**_HEADERS, "X-Feed-Position": str(found.position), **({"Connection": "close"} if leaving else {})}
    return Response(body, media_type="application/json", headers=headers)


def _numbered(entry: Entry) -> bytes:
    """The event with its offset as first member; an EVENT is an object and never empty."""
    return b'{"offset":%d,%b' % (entry[0], entry[1][1:])
