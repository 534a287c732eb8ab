"""Requests are counted by template, whoever answers; no address of a client's becomes a label."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from backend.clock import SystemClock
from backend.metrics import Distribution, Metric, Metrics
from backend.timing import Timed


async def answer(_: Request) -> Response:
    return PlainTextResponse("ok")


async def stream(_: Request) -> Response:
    async def parts():
        yield b"1"
        yield b"2"

    return StreamingResponse(parts())


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(metrics: Metrics):
    routes = [
        Route("/v1/things/{id}", answer, methods=["GET"]),
        Route("/plain", PlainTextResponse("ok")),
        Mount("/files", PlainTextResponse("a file")),
    ]
    both = [Route(path, stream) for path in ("/one", "/two")]
    app = Starlette(routes=[*routes, *both], middleware=[Middleware(Timed, metrics=metrics, monotonic=SystemClock().monotonic)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://moa") as client:
        yield client


async def test_a_request_is_counted_under_its_template_with_its_status(client: httpx.AsyncClient, metrics: Metrics) -> None:
    for path in ("/v1/things/anna-1234", "/v1/things/berta", "/plain", "/one", "/two", "/files/secret", "/nothing/anna"):
        await client.get(path)
    await client.post("/v1/things/anna")
    await client.request("ODD", "/nothing")
    counted = {sample.labels: sample.value for sample in await metrics.samples() if sample.metric is Metric.HTTP_REQUESTS}
    assert counted == {
        ("GET", "/v1/things/{id}", "200"): 2,
        ("GET", "/plain", "200"): 1,
        ("GET", "/one", "200"): 1,
        ("GET", "/two", "200"): 1,
        ("GET", "/files", "200"): 1,
        ("GET", "unmatched", "404"): 1,
        ("POST", "/v1/things/{id}", "405"): 1,
        ("other", "unmatched", "404"): 1,
    }
    times = {sample.labels: sample.value for sample in await metrics.samples() if sample.metric is Metric.HTTP_SECONDS}
    spread = times["GET", "/v1/things/{id}"]
    assert isinstance(spread, Distribution)
    assert sum(spread.counts) == 2
