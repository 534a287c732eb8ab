"""One SSE stream: the position first, then every event as it comes, and a comment now and then.

In: a mailbox that is attached. Out: `text/event-stream`, each event with its position as id, so that a browser resumes by itself.
The stream ends when the token does, when the client reads too slowly, or when the process goes; the client comes back with its last id.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from backend.edge import ANSWER_SECONDS
from backend.errors import EngineUnavailable
from backend.events import Position, to_json
from backend.realtime.feed import Slice
from backend.realtime.hub import Hub
from backend.realtime.mailbox import Lost, Mailbox
from backend.realtime.merging import Entry
from backend.realtime.protocol import CloseCode

COMMENT_SECONDS = 15.0  # keeps proxies from cutting a quiet stream
COMMENT = b":\n\n"

_TYPE = re.compile(rb'\{"type":"([a-z_.]+)"')  # `Event.encode` writes the type first


def position_event(position: Position, *, recovered: bool) -> bytes:
    """Opens a stream, and says in the middle of one that history was lost."""
    data = to_json({"epoch": position.epoch, "offset": position.offset, "recovered": recovered})
    return b"event: position\nid: %b\ndata: %b\n\n" % (str(position).encode(), data)


def event(epoch: str, entry: Entry) -> bytes:
    """One event; its line breaks are none, since it is one line."""
    offset, data = entry
    kind = _TYPE.match(data)
    return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (epoch.encode(), offset, kind[1] if kind else b"message", data)


class EventStream(Response):
    """Answers with what was missed and then with what comes; `release` is called when it ends, however it ends."""

    def __init__(
        self, *, hub: Hub, mailbox: Mailbox, feed: str, since: Position | None, missed: Slice, seconds: float, release: Callable[[], None]
    ) -> None:
        super().__init__()
        self._hub = hub
        self._mailbox = mailbox
        self._feed = feed
        self._since = since
        self._missed = missed
        self._seconds = seconds
        self._release = release
        self._epoch = missed.position.epoch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization", "X-Accel-Buffering": "no"}
        try:
            await StreamingResponse(self._chunks(), media_type="text/event-stream", headers=headers)(scope, receive, send)
        finally:
            self._hub.withdraw(self._mailbox)
            self._release()

    async def _chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        end, comment_at = loop.time() + self._seconds, loop.time() + COMMENT_SECONDS
        yield self._opening()
        while self._mailbox.closing is None and loop.time() < end:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, comment_at)):
                    await self._mailbox.wait()
            if loop.time() >= comment_at:
                comment_at += COMMENT_SECONDS
                yield COMMENT
            items = self._mailbox.take()
            if entries := [item for item in items if isinstance(item, tuple)]:
                yield b"".join(event(self._epoch, entry) for entry in entries)
            if any(isinstance(item, Lost) for item in items):
                yield await self._opened_again()

    def _opening(self) -> bytes:
        """When recovered, the position is the one that was asked from: a client cut off here must not skip what follows."""
        recovered = self._missed.recovered
        position = self._since if self._since is not None and recovered else self._missed.position
        events = self._missed.entries if recovered else ()
        self._missed = Slice(self._missed.position, recovered)
        return position_event(position, recovered=recovered) + b"".join(event(self._epoch, entry) for entry in events)

    async def _opened_again(self) -> bytes:
        """History was lost: the client is told, and hears what comes from now on."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                missed = await self._hub.attach(self._feed, self._mailbox, None)
        except (EngineUnavailable, TimeoutError):
            self._mailbox.close(CloseCode.SERVER_ERROR)  # ends the stream; the client comes back and is told then
            return COMMENT
        self._epoch = missed.position.epoch
        return position_event(missed.position, recovered=False)
