"""The clients: what an app does from the tap on "connect" to the last asset, in the new way and in the two old ones.

In: where to ask, a token, an arrival. Out: a `Journey` of Unix seconds. Each measures from the arrival's intended moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import msgspec
from aiohttp import ClientResponse, ClientSession
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.arrivals import Arrival
from benchmarks.calls import Shown

PROVIDERS = (
    "A1MOABK001",
    "A1MOABK002",
    "B1MOACD001",
    "B1MOACD002",
    "C1MOAIV001",
    "D1MOAIS001",
    "E1MOAEF001",
    "E1MOAEF002",
    "F1MOACP001",
    "G1MOATC001",
)
POLL_SECONDS = 1.0
COMMANDS = '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"feed"}}'


class Ended(Struct, frozen=True):
    """When and how the client heard that a provider had ended: completed, failed, deferred."""

    org_code: str
    how: str
    moment: float


class Journey(Struct, frozen=True, kw_only=True):
    """One registration as its client saw it."""

    sent: float  # when the request really left
    answered: float
    first_asset: float | None
    last: float  # the registration has ended, and the client knows
    completed: bool
    requests: int  # that the client made, upgrades included
    shown: tuple[Shown, ...] = ()  # the first asset of each kind from each provider; only the new way tells, as what follows
    signed: float | None = None  # the client knows that the person has signed
    ends: tuple[Ended, ...] = ()


class Door(Struct, frozen=True):
    """How clients reach one API."""

    http: ClientSession
    url: str
    token: Callable[[str], str]  # of a user

    def headers(self, arrival: Arrival) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(arrival.user)}"}


# --- the new way -----------------------------------------------------------------------------------------------------


class _Asset(Struct):
    kind: str


class _Data(Struct):
    assets: list[_Asset] | int = 0
    status: str | None = None


class _Event(Struct):
    type: str
    data: _Data
    org_code: str = ""


class _Publication(Struct):
    data: _Event


class _Push(Struct):
    pub: _Publication


class _Frame(Struct):
    """One line from the server; `{}` is a ping."""

    id: int = 0
    push: _Push | None = None


_ENDS = frozenset({"provider.completed", "provider.failed", "provider.deferred"})
_FRAME = msgspec.json.Decoder(_Frame)


class _Listening:
    """What came over the socket."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        self.shown: dict[tuple[str, str], Shown] = {}
        self.ended: tuple[float, str] | None = None
        self.signed: float | None = None
        self.ends: list[Ended] = []

    async def listen(self, socket: ClientConnection) -> None:
        """Until the registration has ended."""
        while self.ended is None:
            lines = await socket.recv(decode=False)
            moment = time.time()
            for line in lines.split(b"\n"):
                frame = _FRAME.decode(line)
                if frame.push is not None:
                    self._heard(frame.push.pub.data, moment)
                elif frame.id == 2:
                    self.subscribed.set()
                elif not frame.id:
                    await socket.send("{}")

    def _heard(self, event: _Event, moment: float) -> None:
        if event.type == "provider.assets" and isinstance(event.data.assets, list):
            for asset in event.data.assets:
                self.shown.setdefault((event.org_code, asset.kind), Shown(event.org_code, asset.kind, moment))
        elif event.type == "signature.completed":
            self.signed = moment
        elif event.type in _ENDS:
            self.ends.append(Ended(event.org_code, event.type.removeprefix("provider."), moment))
        elif event.type == "registration.completed":
            self.ended = moment, event.data.status or ""


async def pushed(door: Door, arrival: Arrival, providers: Sequence[str] = PROVIDERS) -> Journey:
    """An app with an open socket: one POST, then everything is pushed."""
    headers, heard = door.headers(arrival), _Listening()
    socket_url = door.url.replace("http", "ws", 1) + "/v1/events"
    async with connect(socket_url, additional_headers=headers, compression=None, ping_interval=None) as socket:
        await socket.send(COMMANDS)
        listening = asyncio.create_task(heard.listen(socket))
        try:
            await heard.subscribed.wait()
            await arrival.come()
            sent = time.time()
            async with door.http.post(f"{door.url}/v1/registrations", json={"providers": providers}, headers=headers) as answer:
                await answer.read()
            answered = time.time()
            answer.raise_for_status()
            await listening
        finally:
            listening.cancel()
    last, status = heard.ended or (time.time(), "")
    shown = tuple(heard.shown.values())
    return Journey(
        sent=sent,
        answered=answered,
        first_asset=min((each.moment for each in shown), default=None),
        last=last,
        completed=status == "completed",
        requests=2,
        shown=shown,
        signed=heard.signed,
        ends=tuple(heard.ends),
    )


# --- the old ways ----------------------------------------------------------------------------------------------------


class _Old(Struct):
    """What the old API answers: the registration as far as it is known."""

    status: str
    id: str = ""
    assets: list[_Asset] = []


async def blocked(door: Door, arrival: Arrival) -> Journey:
    """An app that waits for one long answer."""
    await arrival.come()
    sent = time.time()
    old = await _read(door.http.post(f"{door.url}/blocking", json={"providers": PROVIDERS}, headers=door.headers(arrival)))
    answered = time.time()
    return Journey(
        sent=sent,
        answered=answered,
        first_asset=answered if old.assets else None,
        last=answered,
        completed=old.status == "completed",
        requests=1,
    )


async def polled(door: Door, arrival: Arrival) -> Journey:
    """An app that is answered at once and then asks each second."""
    headers = door.headers(arrival)
    await arrival.come()
    sent = time.time()
    old = await _read(door.http.post(f"{door.url}/background", json={"providers": PROVIDERS}, headers=headers))
    answered = last = time.time()
    first, requests = None, 1
    while old.status == "collecting":
        await asyncio.sleep(POLL_SECONDS)
        old = await _read(door.http.get(f"{door.url}/registrations/{old.id}", headers=headers))
        requests, last = requests + 1, time.time()
        if old.assets and first is None:
            first = last
    return Journey(sent=sent, answered=answered, first_asset=first, last=last, completed=old.status == "completed", requests=requests)


async def _read(asked: AbstractAsyncContextManager[ClientResponse]) -> _Old:
    async with asked as answer:
        answer.raise_for_status()
        return msgspec.json.decode(await answer.read(), type=_Old)
