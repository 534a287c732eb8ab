"""The API as one ASGI application: routes of every room, behind one edge.

In: settings. Out: a Starlette application that connects on first use, drains by `app.state.drain` and closes in its lifespan.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from backend import pages
from backend.apis import Api, build_api
from backend.coordinator.availability import status_in
from backend.demo import Mint, token_routes
from backend.edge import Edge, InTime, on_http_exception, on_refused
from backend.errors import Refused
from backend.events import to_json
from backend.exposing import endpoint as metrics_endpoint
from backend.lateness import lateness_shown
from backend.links.endpoints import LinkEndpoints
from backend.logs import configure_logs
from backend.realtime.endpoints import RealtimeDeps
from backend.realtime.endpoints import routes as realtime_routes
from backend.registration.endpoints import RegistrationEndpoints
from backend.services import alongside
from backend.settings import Settings
from backend.timing import Timed
from backend.web import FEED_POSITION, json_answer


def create_app(settings: Settings, *, mint: Mint | None = None) -> Starlette:
    """The API. Raises `ValueError` or `DirectoryFault` for settings that cannot work.

    `mint` makes development tokens for the demo page; None: the page is given none.
    """
    configure_logs(settings, process="api")
    api = build_api(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with api.hub, alongside(api.following.run()), lateness_shown(api.foundation.metrics, api.foundation.clock):
            await api.foundation.warm()
            try:
                yield
            finally:
                await api.close()

    app = Starlette(
        routes=[*_routes(api, settings), *token_routes(settings, mint), *pages.routes(version("moa"))],
        middleware=_middleware(settings, api),
        exception_handlers={Refused: on_refused, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # to http, and to whatever the Host header says: tokens would go along
    app.state.drain = api.drain
    return app


def _routes(api: Api, settings: Settings) -> list[BaseRoute]:
    foundation = api.foundation
    registration = RegistrationEndpoints(
        verifier=api.verifier,
        accepting=api.accepting,
        handling=foundation.handling,
        database=foundation.database,
        directory=foundation.directory,
        status_of=partial(status_in, api.mirrors),
        position=foundation.feed.position,
        max_body=settings.max_body_bytes,
    )
    links = LinkEndpoints(
        verifier=api.verifier,
        refreshes=api.refreshes,
        links=api.links,
        forgetting=api.forgetting,
        position=foundation.feed.position,
        max_body=settings.max_body_bytes,
    )
    realtime = RealtimeDeps(feed=foundation.feed, hub=api.hub, verifier=api.verifier, clock=foundation.clock, version=version("moa"))
    return [
        *registration.routes(),
        *links.routes(),
        *api.webhooks.routes(),
        *api.breakers.routes(),
        *api.batch.routes(),
        *api.reports.routes(),
        *realtime_routes(realtime),
        *_operations(api),
    ]


def _middleware(settings: Settings, api: Api) -> list[Middleware]:
    origins = frozenset(origin.strip().rstrip("/") for origin in settings.allowed_origins.split(",") if origin.strip())
    cors = Middleware(
        CORSMiddleware,
        allow_origins=sorted(origins),
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "X-Request-Id"],
        expose_headers=["ETag", "Idempotent-Replayed", "Location", "Retry-After", "X-Request-Id", FEED_POSITION],
        max_age=600,
    )
    timed = Middleware(Timed, metrics=api.foundation.metrics, monotonic=api.foundation.clock.monotonic)
    return [timed, Middleware(Edge, allowed_origins=origins), *([cors] if origins else []), Middleware(InTime)]


def _operations(api: Api) -> list[BaseRoute]:
    async def healthz(_: Request) -> Response:
        """This process runs."""
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        """Whether this process can take requests; if not, why."""
        reasons = {"process": "is shutting down"} if api.draining else await api.foundation.away()
        return json_answer(to_json({"ready": not reasons, "reasons": reasons}), status=503 if reasons else 200)

    metrics = metrics_endpoint(api.foundation.metrics), api.all_processes.route()
    return [Route("/healthz", healthz), Route("/readyz", readyz), *metrics]
