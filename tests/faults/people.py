"""Clients of the API as people have them: they repeat what was not answered, follow their feed through every cut, and write all of it down.

In: the addresses of the APIs, a history. Out: registrations that were accepted, tapes of what was heard. A person gives up on one request
after `PATIENCE` seconds, comes back after a 503 as it says, and goes on at the next API when one does not answer.
The followers here filter nothing: a duplicate or a gap that the server sends is on the tape.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import timedelta
from uuid import uuid4

import httpx
import jwt
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus, WebSocketException

from backend.clock import SystemClock
from tests.faults.history import JSON, NO_ANSWER, Asked, Began, Heard, History, Tape
from tests.faults.supervisor import SECRET

PATIENCE = 10.0  # seconds for one request
POLL_WAIT = 2.0
SILENCE = 20.0  # seconds without a byte after which a stream counts as dead
PAUSES = (0.05, 0.4)  # seconds between two attempts
BEGIN = "POST /v1/registrations"

_NUMBERS = itertools.count(1)


class Cut(Exception):
    """This connection is over; another may work."""


class Lost(Exception):
    """The server says that it no longer has what follows our position."""


class Person:
    """One user with one phone. `http` is shared, `urls` are the APIs in the order in which they are tried."""

    def __init__(self, sub: str, urls: tuple[str, ...], http: httpx.AsyncClient, history: History) -> None:
        self.sub = sub
        self.history = history
        exp = (SystemClock().now() + timedelta(hours=1)).timestamp()
        self.token = jwt.encode({"sub": self.sub, "scope": "user", "exp": exp}, SECRET, algorithm="HS256")
        self._urls, self._http = urls, http
        self._turn = next(_NUMBERS)

    def again(self, history: History) -> Person:
        """The same person with another history."""
        return Person(self.sub, self._urls, self._http, history)

    # --- requests -----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The API that is tried next."""
        return self._urls[self._turn % len(self._urls)]

    def turn_to(self, url: str) -> None:
        """The next request goes there."""
        self._turn = self._urls.index(url)

    async def register(self, *org_codes: str, key: str | None = None) -> JSON:
        """Asks with one Idempotency-Key until it is accepted; returns the answer's body."""
        key = key or uuid4().hex
        while True:
            answer = await self.ask("POST", "/v1/registrations", key=key, json={"providers": org_codes})
            if answer is not None and answer.status_code == 202:
                return dict(answer.json())
            assert answer is None or answer.status_code >= 500, answer.text
            await self._pause(answer)

    async def get(self, path: str) -> httpx.Response:
        """Asks until it is answered."""
        while True:
            answer = await self.ask("GET", path)
            if answer is not None and answer.status_code == 200:
                return answer
            await self._pause(answer)

    async def ask(
        self, method: str, path: str, *, key: str = "", json: object = None, params: Mapping[str, str] | None = None, wait: float = 0.0
    ) -> httpx.Response | None:
        """One request; None: there was no answer. `wait`: the seconds that it asks the API to wait."""
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": key} if key else {})}
        began, answer = time.time(), None
        try:
            async with asyncio.timeout(PATIENCE + wait):
                answer = await self._http.request(method, self.url + path, headers=headers, json=json, params=params)
        except (httpx.TransportError, TimeoutError):
            pass
        self._wrote(f"{method} {path}", began, answer, key=key, wait=wait)
        return answer

    def _wrote(self, what: str, began: float, answer: httpx.Response | None, *, key: str = "", wait: float = 0.0) -> None:
        accepted = answer is not None and answer.status_code == 202
        problem = answer is not None and answer.headers.get("content-type", "").startswith("application/problem+json")
        self.history.asked.append(
            Asked(
                user=self.sub,
                what=what,
                began=began,
                ended=time.time(),
                patience=PATIENCE + wait,
                status=NO_ANSWER if answer is None else answer.status_code,
                retry_after=answer is not None and "retry-after" in answer.headers,
                problem=str(answer.json().get("code", "")) if answer is not None and problem else "",
                key=key,
                registration_id=str(answer.json()["id"]) if answer is not None and accepted else "",
            )
        )

    async def _pause(self, answer: httpx.Response | None = None) -> None:
        """Before another try, at the next API: as long as we were told, or a moment."""
        self._turn += 1
        told = float(answer.headers.get("retry-after", "0")) if answer is not None else 0.0
        await asyncio.sleep(max(random.uniform(*PAUSES), min(told, 1.0) * random.uniform(0.5, 1)))

    # --- the feed -----------------------------------------------------------------------------------------------------

    async def follow(self, transport: str, registration: JSON, enough: Callable[[Tape], bool]) -> Tape:
        """Follows from a 202 on until the tape is long enough, then reads a fresh snapshot; the tape goes to the history."""
        entries: list[Began | Heard] = [_began(registration)]
        try:
            while not enough(self._tape(transport, entries)):
                try:
                    await self._connection(transport, entries, enough)
                except Lost:
                    entries.append(await self._begin_again(registration["id"]))
                except Cut:
                    await self._pause()
            fresh = (await self.get(f"/v1/registrations/{registration['id']}")).json()
        except asyncio.CancelledError:
            self.history.tapes.append(self._tape(transport, entries))
            raise
        tape = self._tape(transport, entries, fresh)
        self.history.tapes.append(tape)
        return tape

    async def _connection(self, transport: str, entries: list[Began | Heard], enough: Callable[[Tape], bool]) -> None:
        last = entries[-1]
        async with aclosing(TRANSPORTS[transport](self, last.epoch, last.offset)) as heard:
            async for one in heard:
                entries.append(one)
                if enough(self._tape(transport, entries)):
                    return

    async def _begin_again(self, registration_id: str) -> Began:
        """The snapshots, the registration first: its position is the earlier one."""
        registration = (await self.get(f"/v1/registrations/{registration_id}")).json()
        assets = (await self.get("/v1/assets?limit=500")).json()["assets"]
        return _began(registration, tuple(assets), lost=True)

    def _tape(self, transport: str, entries: list[Began | Heard], fresh: JSON | None = None) -> Tape:
        return Tape(user=self.sub, transport=transport, entries=tuple(entries), fresh=fresh)

    async def by_poll(self, epoch: str, offset: int) -> AsyncGenerator[Heard, None]:
        """One poll."""
        params = {"since": f"{epoch}:{offset}", "wait": str(POLL_WAIT)}
        answer = await self.ask("GET", "/v1/events", params=params, wait=POLL_WAIT)
        if answer is None or answer.status_code != 200:
            raise Cut
        found = answer.json()
        if not found["recovered"]:
            raise Lost
        for event in found["events"]:
            place = event.pop("offset")
            yield Heard(found["epoch"], place, event)

    async def by_sse(self, epoch: str, offset: int) -> AsyncGenerator[Heard, None]:
        """One stream."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "text/event-stream",
            "Last-Event-ID": f"{epoch}:{offset}",
        }
        began, url = time.time(), self.url
        request = self._http.build_request("GET", f"{url}/v1/events", headers=headers, timeout=httpx.Timeout(PATIENCE, read=SILENCE))
        answer: httpx.Response | None = None
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._http.send(request, stream=True)
                if answer.status_code != 200:
                    await answer.aread()
        except (httpx.TransportError, TimeoutError):
            pass
        self._wrote("SSE /v1/events", began, answer)
        if answer is None or answer.status_code != 200:
            raise Cut
        try:
            async for fields in _messages(answer):
                if fields.get("event") == "position":
                    if not orjson.loads(fields["data"])["recovered"]:
                        raise Lost
                elif "data" in fields:
                    of, _, place = fields["id"].rpartition(":")
                    yield Heard(of, int(place), orjson.loads(fields["data"]))
        except httpx.TransportError:
            pass
        finally:
            await answer.aclose()
        raise Cut

    async def by_websocket(self, epoch: str, offset: int) -> AsyncGenerator[Heard, None]:
        """One WebSocket; connect and subscribe leave together."""
        began, status, code = time.time(), NO_ANSWER, ""
        hello = (
            {"id": 1, "connect": {"token": self.token}},
            {"id": 2, "subscribe": {"channel": "feed", "recover": True, "epoch": epoch, "offset": offset}},
        )
        address = f"ws{self.url.removeprefix('http')}/v1/events"
        try:
            async with connect(
                address, open_timeout=PATIENCE, close_timeout=0.5, ping_interval=None, compression=None, max_size=2**24, proxy=None
            ) as socket:
                await socket.send(b"\n".join(map(orjson.dumps, hello)).decode())
                while True:
                    patience = SILENCE + PATIENCE if status else PATIENCE - (time.time() - began)
                    frame = await asyncio.wait_for(socket.recv(), max(0.0, patience))
                    for line in str(frame).split("\n"):
                        reply = orjson.loads(line)
                        if not reply:
                            await socket.send("{}")
                        if ("subscribe" in reply or "error" in reply) and not status:
                            status, code = (200, "") if "subscribe" in reply else (503, str(reply["error"]["code"]))
                            self._socket_answered(began, status, code)
                        for one in _publications(reply, epoch):
                            yield one
        except InvalidStatus as exc:
            status = exc.response.status_code
            self._socket_answered(began, status, "", retry_after="retry-after" in exc.response.headers)
        except (WebSocketException, OSError, TimeoutError):
            if not status:
                self._socket_answered(began, NO_ANSWER, "")
        raise Cut

    def _socket_answered(self, began: float, status: int, code: str, *, retry_after: bool = True) -> None:
        self.history.asked.append(
            Asked(
                user=self.sub,
                what="WebSocket /v1/events",
                began=began,
                ended=time.time(),
                patience=PATIENCE,
                status=status,
                retry_after=retry_after,  # errors of the socket's own protocol say `temporary`
                problem=code,
            )
        )


Connection = Callable[[Person, str, int], AsyncGenerator[Heard, None]]
TRANSPORTS: Mapping[str, Connection] = {"websocket": Person.by_websocket, "sse": Person.by_sse, "poll": Person.by_poll}


def over(tape: Tape) -> bool:
    """Whether this client has heard that its registration has ended, or has seen it in a snapshot."""
    last = tape.entries[-1]
    if isinstance(last, Began):
        return last.registration["status"] not in {"signing", "collecting"}
    first = tape.entries[0]
    assert isinstance(first, Began)
    return bool(last.event["type"] == "registration.completed" and last.event["registration_id"] == first.registration["id"])


def _began(registration: JSON, assets: tuple[JSON, ...] = (), *, lost: bool = False) -> Began:
    position = registration["position"]
    return Began(position["epoch"], position["offset"], registration, assets, lost)


def _publications(reply: JSON, epoch: str) -> list[Heard]:
    if "error" in reply:
        raise Cut
    if "subscribe" in reply:
        if not reply["subscribe"].get("recovered"):
            raise Lost
        found = reply["subscribe"].get("publications", [])
    else:
        push = reply.get("push", {})
        if "unsubscribe" in push:
            raise Cut
        found = [push["pub"]] if "pub" in push else []
    return [Heard(epoch, one["offset"], one["data"]) for one in found]


async def _messages(answer: httpx.Response) -> AsyncGenerator[dict[str, str], None]:
    buffer = b""
    async for chunk in answer.aiter_bytes():
        *whole, buffer = (buffer + chunk).split(b"\n\n")
        for message in whole:
            pairs = (line.partition(": ") for line in message.decode().split("\n"))
            yield {name: value for name, _, value in pairs if name}
