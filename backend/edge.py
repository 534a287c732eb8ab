"""The outermost layers of the API: a request id, the Origin check, refusals as problem documents, the answer to our own faults, a deadline.

In: every HTTP request and WebSocket upgrade. Out: what the routes answer, with `X-Request-Id`; or a problem document. A WebSocket from a
foreign origin is refused before the upgrade. Nothing that a client sent is logged but the path.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.errors import Problem, Refused
from backend.web import REQUEST_ID, problem_answer, request_id

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_BY_STATUS: Mapping[int, Problem] = {
    400: Problem.MALFORMED_REQUEST,
    404: Problem.NOT_FOUND,
    405: Problem.METHOD_NOT_ALLOWED,
    413: Problem.BODY_TOO_LARGE,
}

ANSWER_SECONDS = 8.0  # what clients wait for at the most is often 10
PATIENCE = "patience"  # in `request.state`: the `asyncio.Timeout` over the time until the answer begins
_TOO_LATE = "This took too long. Whether it was carried out is not known: repeat it, a registration with the same Idempotency-Key."

log = structlog.get_logger()


class Edge:
    """Wraps the application. `allowed_origins`: scheme://host[:port] that browsers may call from beside our own."""

    def __init__(self, app: ASGIApp, *, allowed_origins: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        of_request = _request_id(headers)
        scope.setdefault("state", {})[REQUEST_ID] = of_request
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=of_request)
        if not self._is_welcome(headers):
            log.info("request.refused", path=scope["path"], code=Problem.ORIGIN_NOT_ALLOWED.value)
            answer = problem_answer(Refused(Problem.ORIGIN_NOT_ALLOWED), of_request)
            answer.headers["Vary"] = "Origin"  # what is let in has it of CORSMiddleware
            await refuse(answer, scope, receive, _stamped(send, of_request))
            return
        await self._guarded(scope, receive, _stamped(send, of_request), of_request)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, of_request: str) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] in {"http.response.start", "websocket.accept", "websocket.close"}
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:  # our fault, whatever it is: the client gets a document, the log gets the traceback
            log.exception("request.failed", path=scope["path"])
            if not started:
                await refuse(self._readable(problem_answer(Refused(Problem.INTERNAL), of_request), scope), scope, receive, send)

    def _readable(self, answer: Response, scope: Scope) -> Response:
        """Also by a page that may call: what failed came past CORSMiddleware, without which a browser tells it nothing."""
        origin = Headers(scope=scope).get("origin")
        if origin in self._allowed:
            answer.headers.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin"})
        return answer

    def _is_welcome(self, headers: Headers) -> bool:
        """No Origin: no browser. Else the API's own, or one that the operator named."""
        origin = headers.get("origin")
        if origin is None:
            return True
        return origin in self._allowed or _host_of(origin) == headers.get("host", "")


class InTime:
    """Answers for an endpoint that cannot, because an engine keeps it waiting. An answer that has begun may take as long as it likes.

    Each wait inside has its own bound, but several may follow one another; this one is over all of them, but for an `own_wait`.
    """

    def __init__(self, app: ASGIApp, *, seconds: float = ANSWER_SECONDS) -> None:
        self._app = app
        self._seconds = seconds
        self._given_up: set[asyncio.Task[None]] = set()  # on their way out; each holds a connection of a bounded pool at most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = over = False

        async def watched(message: Message) -> None:
            nonlocal begun
            if not over:
                begun = True
                await send(message)

        answering = asyncio.ensure_future(self._answer(scope, receive, watched))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds) as scope["state"][PATIENCE]:
                    await asyncio.wait({answering})
            if begun or answering.done():
                await answering
                return
            over = True
            log.warning("request.too_late", path=scope["path"])
            answer = Refused(Problem.ENGINE_UNAVAILABLE, _TOO_LATE)
            await refuse(problem_answer(answer, scope["state"][REQUEST_ID]), scope, receive, send)
        finally:
            self._give_up(answering)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _give_up(self, answering: asyncio.Task[None]) -> None:
        """Nobody waits for its last words: giving a connection back may itself have to wait for the engine."""
        if not answering.done():
            answering.cancel()
            self._given_up.add(answering)
            answering.add_done_callback(self._forget)

    def _forget(self, answering: asyncio.Task[None]) -> None:
        self._given_up.discard(answering)
        if not answering.cancelled() and (exc := answering.exception()) is not None:
            log.info("request.gave_up", error=type(exc).__name__)


@contextmanager
def own_wait(request: Request) -> Iterator[None]:
    """What happens inside is the client's own wish to wait: it does not count as being kept waiting."""
    patience: asyncio.Timeout | None = getattr(request.state, PATIENCE, None)  # None: nobody counts
    until = patience.when() if patience is not None else None
    if patience is None or until is None:
        yield
        return
    began = asyncio.get_running_loop().time()
    with suppress(RuntimeError):  # it is over already, and so is this request
        patience.reschedule(None)
    try:
        yield
    finally:
        with suppress(RuntimeError):
            patience.reschedule(until + asyncio.get_running_loop().time() - began)


async def refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends a refusal, for a WebSocket as the answer to its upgrade."""
    if scope["type"] == "http":
        await answer(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        prefix = "websocket.http.response"
        await send({"type": f"{prefix}.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": f"{prefix}.body", "body": bytes(answer.body)})
    else:
        await send({"type": "websocket.close", "code": 1008})  # before the accept: servers answer 403


async def on_refused(request: Request, exc: Exception) -> Response:
    """The problem document of a `Refused`."""
    assert isinstance(exc, Refused)  # noqa: S101  # registered for Refused only
    return problem_answer(exc, request_id(request))


async def on_http_exception(request: Request, exc: Exception) -> Response:
    """What Starlette itself refuses: unknown paths, wrong methods."""
    assert isinstance(exc, HTTPException)  # noqa: S101  # registered for HTTPException only
    answer = problem_answer(Refused(_BY_STATUS.get(exc.status_code, Problem.MALFORMED_REQUEST)), request_id(request))
    answer.headers.update(exc.headers or {})
    if exc.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """What this address can be asked; Starlette itself names the methods of one of its routes only."""
    routes = [route for route in request.app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in route.methods or ()})


def _host_of(origin: str) -> str | None:
    """host[:port]; None: it has none, or is no URL at all."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _request_id(headers: Headers) -> str:
    """The caller's, if it looks like one; else a new one."""
    given = headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else f"req_{uuid4().hex}"


def _stamped(send: Send, of_request: str) -> Send:
    async def stamped(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start", "websocket.accept"}:
            message.setdefault("headers", [])
            MutableHeaders(scope=message)["X-Request-Id"] = of_request
        await send(message)

    return stamped
