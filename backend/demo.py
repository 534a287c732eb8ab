"""`GET /demo/token?user=alice`: a development token for the demo page, so that it works with nothing but a browser.

In: settings and whatever can mint a token (the command line gives it; the API itself cannot). Out: one route on a developer's machine,
none anywhere else. Only a client of this very machine gets a token, under a name of this machine, and not through a proxy: another
host's page that has its name resolve to 127.0.0.1 is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from backend.errors import Problem, Refused
from backend.events import to_json
from backend.settings import Settings
from backend.web import json_answer, malformed

TOKEN_SECONDS = 3600
LONGEST_USER = 64  # characters; the page's people have short names
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")

Mint = Callable[[str, int], str]  # user, seconds -> a token of scope `user`


def token_routes(settings: Settings, mint: Mint | None) -> list[BaseRoute]:
    """The route; none in production, without a development secret, or with nothing that mints."""
    if mint is None or settings.environment != "development" or settings.jwt_secret is None or settings.jwks_url is not None:
        return []

    async def token(request: Request) -> Response:
        if not _is_at_home(request):
            raise Refused(Problem.NOT_FOUND)
        user = request.query_params.get("user", "")
        if not 1 <= len(user) <= LONGEST_USER or not user.isprintable():
            raise malformed("user", f"1 to {LONGEST_USER} printable characters are needed")
        answer = {"token": mint(user, TOKEN_SECONDS), "expires_in": TOKEN_SECONDS}
        return json_answer(to_json(answer), headers={"Cache-Control": "no-store"})

    return [Route("/demo/token", token, methods=["GET"])]


def _is_at_home(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    return _is_loopback(request.client.host) and _is_loopback(urlsplit(f"//{request.headers.get('host', '')}").hostname)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
