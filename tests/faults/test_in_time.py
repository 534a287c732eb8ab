"""The API's last deadline: whoever is kept waiting is told so before a client gives up, and nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from backend.edge import Edge, InTime, own_wait

SECONDS = 0.1


@pytest.fixture
def ended() -> list[str]:
    return []


@pytest.fixture
async def ask(ended: list[str]) -> AsyncIterator[Callable[[str], Awaitable[httpx.Response]]]:
    async def prompt(_: Request) -> Response:
        return PlainTextResponse("here")

    async def stuck(_: Request) -> Response:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(SECONDS)  # giving something back takes its time, too
            ended.append("stuck")
        return PlainTextResponse("never")

    async def begun(_: Request) -> Response:
        async def words() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(SECONDS * 2)
            yield b"b"

        return StreamingResponse(words())

    async def broken(_: Request) -> Response:
        raise RuntimeError

    async def slow(_: Request) -> Response:
        await asyncio.sleep(SECONDS * 2)
        return PlainTextResponse("late")

    async def waiting(request: Request) -> Response:
        with own_wait(request):
            await asyncio.sleep(SECONDS * 2)
        await asyncio.sleep(float(request.query_params["then"]))
        return PlainTextResponse("waited")

    app = Starlette(
        routes=[Route(f"/{deed.__name__}", deed) for deed in (prompt, stuck, begun, broken, slow, waiting)],
        middleware=[Middleware(Edge, allowed_origins=frozenset()), Middleware(InTime, seconds=SECONDS)],
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://moa") as client:
        yield client.get


async def test_an_endpoint_that_hangs_is_answered_for_with_503_and_given_up(ask, ended: list[str]) -> None:
    answer = await asyncio.wait_for(ask("/stuck"), SECONDS * 5)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["code"] == "engine_unavailable"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert ended == []  # the client did not wait for that
    await asyncio.sleep(SECONDS * 2)
    assert ended == ["stuck"]


async def test_whoever_is_in_time_or_has_begun_is_left_alone(ask) -> None:
    assert [(await ask(path)).text for path in ("/prompt", "/begun")] == ["here", "ab"]
    assert (await ask("/slow")).status_code == 503


async def test_what_a_client_asked_to_wait_for_does_not_count_but_what_follows_does(ask) -> None:
    assert (await ask("/waiting?then=0")).text == "waited"
    began = asyncio.get_running_loop().time()
    assert (await ask("/waiting?then=5")).status_code == 503
    assert asyncio.get_running_loop().time() - began < SECONDS * 8


async def test_a_fault_is_still_a_fault(ask) -> None:
    answer = await ask("/broken")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
