"""A small API with nothing but the feed, on a real socket, over a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.clock import SystemClock
from backend.errors import Refused
from backend.identity import TokenVerifier
from backend.jobs.valkey import connect
from backend.realtime.channels import dialer
from backend.realtime.endpoints import RealtimeDeps, routes
from backend.realtime.feed import Feed
from backend.realtime.hub import Hub
from tests.realtime.given import SECRET, Api, problem, serve

Serve = Callable[..., AbstractAsyncContextManager[Api]]


class Stage:
    """An ASGI application that plays whichever is on: starting a server for every test would take a fifth of a second each."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None
        self.port = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    async with serve(stage) as stage.port:
        yield stage


@pytest.fixture
def api_with(valkey_url: str, stage: Stage) -> Serve:
    """An API with other limits."""

    @asynccontextmanager
    async def build(*, sockets_per_user: int = 0, url: str = valkey_url) -> AsyncIterator[Api]:
        redis = connect(url, timeout=5, pool=20)
        relayed: dict[str, int] = {}

        async def ask(user_id: str) -> int:
            return relayed.get(user_id, 0)

        feed, clock = Feed(redis=redis, relayed=ask), SystemClock()
        verifier = TokenVerifier(secret=SECRET, jwks_url=None, clock=clock)
        async with Hub(feed=feed, dial=dialer(redis), sockets_per_user=sockets_per_user) as hub:
            deps = RealtimeDeps(feed=feed, hub=hub, verifier=verifier, clock=clock, version="0.1.0")
            stage.app = Starlette(routes=routes(deps), exception_handlers={Refused: problem})
            yield Api(redis, feed, hub, stage.port, relayed)
        await redis.aclose()

    return build


@pytest.fixture
async def api(api_with: Serve) -> AsyncIterator[Api]:
    async with api_with() as built:
        yield built
