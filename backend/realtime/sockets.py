"""One WebSocket: carries out what the session says, and writes what the mailbox holds.

In: an ASGI WebSocket. Out: frames, coalesced into one write while several wait. Two tasks: this one writes, a second one reads.
The session decides everything; nothing here knows a command or a code beyond passing it on. A client that does not read blocks
nobody but itself: its mailbox fills, and it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from backend.clock import Clock
from backend.edge import ANSWER_SECONDS
from backend.errors import EngineUnavailable, Problem, Refused
from backend.events import Position
from backend.identity import OPS, Identity, TokenVerifier, bearer_token, denied
from backend.realtime import protocol
from backend.realtime.audience import Audience
from backend.realtime.feed import Slice
from backend.realtime.hub import Hub
from backend.realtime.mailbox import Item, Lost, Mailbox
from backend.realtime.protocol import CloseCode
from backend.realtime.session import Action, Attach, Close, Detach, Rejection, Send, Session, Verified, Verify
from backend.realtime.tallies import Transport

FLUSH_SECONDS = 2.0  # what waits at a close may still be written for so long
GOODBYE_SECONDS = 30.0  # a slow client that reads on within this time learns why it was closed

log = structlog.get_logger()

_REJECTIONS = {
    Problem.TOKEN_EXPIRED: Rejection.EXPIRED,
    Problem.TOKEN_INVALID: Rejection.INVALID,
    Problem.UNAUTHENTICATED: Rejection.INVALID,
    Problem.SCOPE_MISSING: Rejection.FORBIDDEN,
}


class Socket:
    """Serve one client with `run`."""

    def __init__(self, websocket: WebSocket, *, audience: Audience, hub: Hub, verifier: TokenVerifier, clock: Clock, version: str) -> None:
        self._websocket = websocket
        self._audience = audience
        self._hub = hub
        self._verifier = verifier
        self._clock = clock
        self._channel = audience.channel.encode()
        self._mailbox = Mailbox(self._closed)
        self._session = Session(channel=audience.channel, client=secrets.token_hex(16), version=version, now=clock.monotonic())
        self._identity: Identity | None = None  # None: not connected yet
        self._timer: asyncio.TimerHandle | None = None
        self._patience: asyncio.Timeout | None = None
        self._gone = False  # whether the client went before we closed

    async def run(self) -> None:
        """From the handshake to the end."""
        offered = self._websocket.scope.get("subprotocols", [])
        await self._websocket.accept(subprotocol=protocol.SUBPROTOCOL if protocol.SUBPROTOCOL in offered else None)
        try:
            self._hub.enrol(self._mailbox, Transport.WEBSOCKET)
        except Refused:
            self._mailbox.close(CloseCode.SHUTDOWN)
        try:
            await self._converse()
            await self._say_goodbye()
        finally:
            self._hub.withdraw(self._mailbox, by_itself=self._gone)

    async def _converse(self) -> None:
        self._set_timer()
        reading = asyncio.create_task(self._read())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None) as self._patience:
                    await self._write()
        except WebSocketDisconnect:
            pass
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            self._leave()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while self._mailbox.closing is None:
                message = await self._websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self._gone = self._mailbox.closing is None
                    break
                frame = message.get("text")
                until = asyncio.get_running_loop().time() + ANSWER_SECONDS
                await self._carry_out(self._session.received(message.get("bytes", b"") if frame is None else frame), until)
        except Exception:
            log.exception("socket.failed")
            self._mailbox.close(CloseCode.SERVER_ERROR)
        self._mailbox.close(CloseCode.SHUTDOWN)  # nobody is there to read the code; it only ends the writer

    async def _carry_out(self, actions: list[Action], until: float) -> None:
        """Does what the session says; what it asks for is answered, and what follows from the answer is done next.

        `until`: by then, on the loop's clock, whatever one frame asks for has its answer, and be it that it cannot be had now.
        """
        while actions:
            action, *actions = actions
            match action:
                case Verify(token=token, joining=joining):
                    actions += self._session.verified(await self._verify(token, until, joining=joining), self._clock.monotonic())
                case Attach(since=since):
                    actions += self._session.attached(await self._attach(since, until))
                case _:
                    self._do(action)
        self._set_timer()

    def _do(self, action: Action) -> None:
        match action:
            case Send(frame=frame):
                self._mailbox.put(frame)
            case Detach():
                self._hub.detach(self._mailbox)
            case Close(code=code):
                self._mailbox.close(code)

    async def _verify(self, token: str | None, until: float, *, joining: bool) -> Verified | Rejection:
        try:
            async with asyncio.timeout_at(until):
                identity = await self._verifier.verify(bearer_token(self._websocket) if token is None else token)
        except TimeoutError:
            return Rejection.UNAVAILABLE
        except Refused as exc:
            if self._audience.scope == OPS:
                denied(self._websocket, exc.problem)
            return _REJECTIONS.get(exc.problem, Rejection.UNAVAILABLE)
        if self._audience.scope not in identity.scopes:
            if self._audience.scope == OPS:
                denied(self._websocket, Problem.SCOPE_MISSING, who=identity.user_id)
            return Rejection.FORBIDDEN
        if joining and not self._hub.admit(self._audience.owner(identity)):
            return Rejection.CROWDED
        if joining:
            self._identity = identity
        return Verified(identity.user_id, (identity.expires_at - self._clock.now()).total_seconds())

    async def _attach(self, since: Position | None, until: float) -> Slice | None:
        if self._identity is None:
            return None
        try:
            async with asyncio.timeout_at(until):
                return await self._hub.attach(self._audience.feed(self._identity), self._mailbox, since)
        except (EngineUnavailable, TimeoutError):
            return None

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._mailbox.wait()
            items = self._mailbox.take()
            if items:
                await self._websocket.send_text(b"\n".join(map(self._frame, items)).decode())
            elif self._mailbox.closing is not None:
                return

    def _frame(self, item: Item) -> bytes:
        match item:
            case bytes():
                return item
            case Lost():
                sent = [action.frame for action in self._session.lost() if isinstance(action, Send)]
                return b"\n".join(sent)
        return protocol.push(self._channel, item)

    async def _say_goodbye(self) -> None:
        code = self._mailbox.closing
        if code is None or self._websocket.client_state is WebSocketState.DISCONNECTED:
            return
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._websocket.close(code, code.reason)

    # --- time and end -------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self._session.wake_at
        if wake_at is not None and self._mailbox.closing is None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at - self._clock.monotonic()), self._tick)

    def _tick(self) -> None:
        for action in self._session.elapsed(self._clock.monotonic()):
            self._do(action)
        self._set_timer()

    def _closed(self) -> None:
        """The mailbox was closed: a writer that is stuck in a client's full buffers may not stay there."""
        if self._patience is not None and self._mailbox.closing is not None:
            patience = 0.0 if self._mailbox.closing is CloseCode.SLOW else FLUSH_SECONDS
            with contextlib.suppress(RuntimeError):  # the writer has just ended
                self._patience.reschedule(asyncio.get_running_loop().time() + patience)

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._hub.detach(self._mailbox)
        if self._identity is not None:
            self._hub.release(self._audience.owner(self._identity))
