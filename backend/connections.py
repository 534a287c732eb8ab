"""One connection of a client, whoever it is: how much of a header is read, how long it is waited for, and how long for who reads no answer.

In: bytes. Out: what uvicorn's own protocol makes of them; or 431 and the end; or the end alone. Bodies are bounded where they are read
(`web.py`), WebSockets by `serving.py`. uvicorn's parser takes a header of any size, at a cost that grows with its square, and waits for
ever for one that does not come, or for a peer to read, even when it has closed the connection.
Statuses: RFC 6585 section 5; closing so that an answer is still read: RFC 9112 section 9.6.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from uuid import uuid4

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.http11 import MAX_LINE_LENGTH

from backend.errors import Problem, Refused
from backend.web import problem_answer

HEAD_BYTES = 64 * 1024  # of a request line and its headers
HEAD_LINES = 100
HANDSHAKE_LINE_BYTES = MAX_LINE_LENGTH - 4  # of name and value; what stands between and after them is the rest
HEAD_SECONDS = 10.0  # from the opening, or from the first byte of the next request, until its headers are complete
UNREAD_SECONDS = 60.0  # in which a peer for whom much waits must take in some of it; its system may ask for more at long intervals
LEAST_READ = 16 * 1024  # bytes
LINGER_SECONDS = 1.0  # what is still on its way is read and dropped for so long: else the peer's system would drop our answer


class Impatient(asyncio.Protocol):
    """Beside a protocol of uvicorn's: cuts off a peer that does not read, whose answer would be kept, and its writer held, for ever."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _reading: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`. What waits is more than the system takes for the peer."""
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._look_no_more()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        self._look_no_more()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._look_no_more()
        self._reading = self.loop.call_later(UNREAD_SECONDS, self._look, self.transport.get_write_buffer_size())

    def _look_no_more(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look(self, waited: int) -> None:
        if waited - self.transport.get_write_buffer_size() < LEAST_READ:
            self.transport.abort()
        else:
            self._look_later()


class Connection(Impatient, HttpToolsProtocol):
    """Named in `serving.py`. A request whose headers come in one piece costs no timer."""

    _head = 0  # bytes of a header that is not complete
    _in_body = False
    _turned = False  # whether a header or a request has ended in what was just parsed
    _over = False  # nothing more is heard here
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. The parser is never given more of one header than it may have.

        Where in a piece one request ends and the next begins is not known: what came with the end of another is not counted.
        """
        while data and not self._over and not self.transport.is_closing():
            room = HEAD_BYTES - self._head
            piece, data = data[:room], data[room:]
            self._turned = False
            super().data_received(piece)
            self._head = 0 if self._turned or self._in_body else self._head + len(piece)
            if self._head >= HEAD_BYTES:
                self._refuse()
        if self._timer is None and not self._over and not self._answering and self.timeout_keep_alive_task is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The parser's word. Too many lines: another application answers."""
        self._wait_no_more()
        self._turned = self._in_body = True
        if len(self.headers) > HEAD_LINES:
            self.app = _refusal()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser's word."""
        self._turned, self._in_body = True, False
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """What comes from now on goes to the WebSocket protocol, which would leave a handshake that it cannot read without an answer."""
        lines = (len(name) + len(value) for name, value in (*self.headers, (b"GET HTTP/1.1", self.url)))
        if len(self.headers) > HEAD_LINES or max(lines) > HANDSHAKE_LINE_BYTES:
            self._refuse()
            return
        self._over = True
        super().handle_websocket_upgrade()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._elapsed)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _elapsed(self) -> None:
        self._timer = None
        if self._answering:  # a second request was begun meanwhile, and perhaps we are who does not read it
            self._wait()
        else:
            self.transport.close()

    def _refuse(self) -> None:
        self._over = True
        self._wait_no_more()
        if self._answering:  # its answer is not to be mixed with another
            self.transport.close()
            return
        answer = _refusal()
        lines = [b"HTTP/1.1 %d %s" % (answer.status_code, HTTPStatus(answer.status_code).phrase.encode())]
        lines += [name + b": " + value for name, value in (*self.server_state.default_headers, *answer.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _refusal() -> Response:
    of_request = f"req_{uuid4().hex}"
    answer = problem_answer(Refused(Problem.HEADERS_TOO_LARGE), of_request)
    answer.headers.update({"Connection": "close", "X-Request-Id": of_request})
    return answer
