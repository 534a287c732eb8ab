"""How many requests there were, how they were answered, and how long the answer took to begin.

In: every HTTP request, outermost. Out: the same, and figures by method, route and status. A route is named by its template, so that no
address of a client's becomes a label; what no route took is `unmatched`. WebSockets are counted where they live (`realtime/tallies.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.metrics import Metric, Metrics

UNMATCHED = "unmatched"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Timed:
    """Wraps the application. `monotonic`: the clock's."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, monotonic: Callable[[], float]) -> None:
        self._app = app
        self._metrics = metrics
        self._monotonic = monotonic
        self._templates: dict[Any, tuple[str, ...]] | None = None  # by endpoint; None: nobody has called yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = self._monotonic()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], self._monotonic() - began)
            await send(message)

        await self._app(scope, receive, watched)

    def _count(self, scope: Scope, status: int, took: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = self._route(scope)
        self._metrics.count(Metric.HTTP_REQUESTS, method, route, str(status))
        self._metrics.observe(Metric.HTTP_SECONDS, method, route, value=took)

    def _route(self, scope: Scope) -> str:
        """The router leaves in the scope who answers."""
        endpoint = scope.get("endpoint")
        if endpoint is None:
            return UNMATCHED
        if self._templates is None:
            self._templates = templates(scope["app"].routes)
        known = self._templates.get(endpoint, ())
        if len(known) == 1:
            return known[0]
        return str(scope["path"]) if scope["path"] in known else UNMATCHED  # one endpoint may serve several addresses


def templates(routes: list[BaseRoute]) -> dict[Any, tuple[str, ...]]:
    """Each endpoint's paths as they were written; of what is mounted, the place."""
    found: dict[Any, tuple[str, ...]] = {}
    for route in routes:
        path, endpoint = getattr(route, "path", None), getattr(route, "endpoint", None) or getattr(route, "app", None)
        if path is not None and path not in found.get(endpoint, ()):
            found[endpoint] = (*found.get(endpoint, ()), path)
    return found
