"""What the API serves beside data: the demo page, the operators' console, and the documents that describe the API.

In: nothing but the path. Out: files of `frontend_demo/`, and two JSON documents that are built at the start. The page may load and call
nothing but this server: no inline script, no inline style, no other host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from backend.documents import asyncapi, openapi
from backend.events import to_json
from backend.web import json_answer

PAGES = Path(__file__).parent.parent / "frontend_demo"  # beside the package, in a checkout as in an installation

_SHOWN = {"/": "index.html", "/ops": "ops.html"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",  # covers the WebSocket of the same host
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class _Files(StaticFiles):
    """The page's folder; every file carries the policy, so that none of them is a way around it."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers.update(_HEADERS)
        return answer


def routes(version: str) -> list[BaseRoute]:
    """`/`, `/ops`, `/demo/…`, `/openapi.json`, `/asyncapi.json`. The console is public; what it shows takes an operator's token."""
    documents = {"/openapi.json": to_json(openapi(version)), "/asyncapi.json": to_json(asyncapi(version))}

    async def page(request: Request) -> Response:
        return FileResponse(PAGES / _SHOWN[request.url.path], headers=_HEADERS)

    async def document(request: Request) -> Response:
        return json_answer(documents[request.url.path])

    return [
        *(Route(path, page, methods=["GET"]) for path in _SHOWN),
        *(Route(path, document, methods=["GET"]) for path in documents),
        Mount("/demo", _Files(directory=PAGES, check_dir=False)),
    ]
