"""A room's endpoints behind the outermost layer of HTTP, and somebody who calls them with a token of theirs; nothing else runs.

In: routes, made with `VERIFIER`. Out: a client. What a whole API does is tested elsewhere (`tests/registration/house.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import httpx
import jwt
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from backend.clock import SystemClock
from backend.edge import Edge, on_http_exception, on_refused
from backend.errors import Refused
from backend.identity import TokenVerifier

SECRET = "a secret for tests that is long enough"
VERIFIER = TokenVerifier(secret=SECRET, jwks_url=None, clock=SystemClock(), budget=None)


def caller(routes: Sequence[BaseRoute], *, sub: str = "olga", scope: str = "ops") -> httpx.AsyncClient:
    """Somebody who calls them."""
    app = Starlette(
        routes=list(routes),
        middleware=[Middleware(Edge, allowed_origins=frozenset())],
        exception_handlers={Refused: on_refused, HTTPException: on_http_exception},
    )
    claims = {"sub": sub, "scope": scope, "exp": SystemClock().now() + timedelta(hours=1)}
    headers = {"Authorization": "Bearer " + jwt.encode(claims, SECRET, algorithm="HS256")}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://moa", headers=headers)
