"""The outermost layer: an id for every request, foreign origins kept out, and our own faults answered without a word too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from structlog.testing import capture_logs

from backend.edge import Edge, on_http_exception, on_refused
from backend.errors import EngineUnavailable, Refused
from backend.web import request_id


async def says_its_id(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request_id(request))


async def fails(_: Request) -> PlainTextResponse:
    raise LookupError("very private")


async def fails_half_way(_: Request) -> StreamingResponse:
    async def body() -> Any:
        yield b"half"
        raise LookupError("very private")

    return StreamingResponse(body())


async def away(_: Request) -> PlainTextResponse:
    raise EngineUnavailable("PostgreSQL")


async def teapot(_: Request) -> PlainTextResponse:
    raise HTTPException(418)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(str(websocket.scope["state"]["request_id"]))
    await websocket.close()


async def broken(websocket: WebSocket) -> None:
    raise LookupError("very private")


APP = Starlette(
    routes=[
        Route("/", says_its_id, methods=["GET"]),
        Route("/", says_its_id, methods=["PUT", "DELETE"]),
        Route("/fails", fails),
        Route("/half", fails_half_way),
        Route("/away", away),
        Route("/teapot", teapot),
        WebSocketRoute("/socket", echo),
        WebSocketRoute("/broken", broken),
    ],
    middleware=[Middleware(Edge, allowed_origins=frozenset({"https://app.example"}))],
    exception_handlers={Refused: on_refused, HTTPException: on_http_exception},
)

Ask = Callable[..., Any]


@pytest.fixture
async def ask() -> Any:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://moa") as client:
        yield client.request


@pytest.mark.parametrize("given", ["client-1.a_b", "x" * 64, "12345678"])
async def test_an_id_that_looks_like_one_is_kept(ask: Ask, given: str) -> None:
    answer = await ask("GET", "/", headers={"X-Request-Id": given})
    assert answer.text == answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "short", "x" * 65, "with space", "new\tline", "<script>", "é" * 8])
async def test_any_other_is_replaced(ask: Ask, given: str | None) -> None:
    answer = await ask("GET", "/", headers={} if given is None else {b"X-Request-Id": given.encode()})
    assert answer.text == answer.headers["x-request-id"]
    assert answer.text.startswith("req_")
    assert answer.text != (await ask("GET", "/")).text


@pytest.mark.parametrize("origin", ["https://app.example", "http://moa", "https://moa"])
async def test_who_may_call(ask: Ask, origin: str) -> None:
    assert (await ask("GET", "/", headers={"Origin": origin})).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "moa", "http://moa.evil.example", "http://moa:81", "file://", "http://MOA@evil", "http://["],
)
async def test_who_may_not_and_hears_why(ask: Ask, origin: str) -> None:
    for path in ("/", "/fails", "/nowhere"):
        answer = await ask("GET", path, headers={"Origin": origin})
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
        assert answer.headers["vary"] == "Origin", "with another, it is another answer"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_our_own_fault_is_a_document_without_its_words_and_a_line_in_the_log(ask: Ask) -> None:
    with capture_logs() as lines:
        answer = await ask("GET", "/fails?token=private")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "private" not in answer.text
    (line,) = [line for line in lines if line["event"] == "request.failed"]
    assert line["path"] == "/fails"


async def test_a_page_that_may_call_can_read_of_our_own_fault_too(ask: Ask) -> None:
    answer = await ask("GET", "/fails", headers={"Origin": "https://app.example"})
    assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == ("https://app.example", "Origin")
    assert "access-control-allow-origin" not in (await ask("GET", "/fails", headers={"Origin": "http://moa"})).headers


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.Future()  # the client stays and says nothing more

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {"type": "http", "method": "GET", "path": "/half", "raw_path": b"/half", "query_string": b"", "headers": [], "root_path": ""}
    await APP({**scope, "http_version": "1.1", "scheme": "http", "server": ("moa", 80), "client": None}, receive, send)
    assert [message["type"] for message in sent].count("http.response.start") == 1


async def test_an_engine_that_is_away_is_503_with_a_time_to_come_back(ask: Ask) -> None:
    answer = await ask("GET", "/away")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "engine_unavailable", "1")


async def test_what_starlette_refuses_is_a_document_too(ask: Ask) -> None:
    assert (await ask("GET", "/nowhere")).json()["code"] == "not_found"
    wrong = await ask("POST", "/")
    assert (wrong.json()["code"], wrong.headers["allow"]) == ("method_not_allowed", "DELETE, GET, HEAD, PUT")
    assert (await ask("GET", "/teapot")).json()["code"] == "malformed_request"


async def upgrade(path: str, *, can_answer: bool, **headers: str) -> list[dict[str, Any]]:
    """What a server hears when somebody asks for a WebSocket."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "moa", **headers}.items()]
    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": raw, "subprotocols": [], "scheme": "ws", "root_path": ""}
    await APP({**scope, "extensions": {"websocket.http.response": {}} if can_answer else {}}, receive, send)
    return sent


@pytest.mark.parametrize("path", ["/socket", "/broken"])
async def test_a_socket_of_a_foreign_page_is_refused_before_the_upgrade(path: str) -> None:
    start, body = await upgrade(path, can_answer=True, origin="https://evil.example")
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert b"x-request-id" in dict(start["headers"])
    assert b"origin_not_allowed" in body["body"]
    (closed,) = await upgrade(path, can_answer=False, origin="https://evil.example")
    assert closed["type"] == "websocket.close"


async def test_a_socket_has_an_id_too() -> None:
    accepted, said, _ = await upgrade("/socket", can_answer=True, x_request_id="client-1")
    assert accepted["type"] == "websocket.accept"
    assert (b"x-request-id", b"client-1") in accepted["headers"]
    assert said["text"] == "client-1"


async def test_a_fault_before_the_accept_is_a_refusal() -> None:
    with capture_logs() as lines:
        start, _ = await upgrade("/broken", can_answer=True)
    assert start["status"] == 500
    assert [line["event"] for line in lines] == ["request.failed"]
