"""Who is given a development token: the page on a developer's own machine, nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from backend.demo import TOKEN_SECONDS, token_routes
from backend.edge import on_refused
from backend.errors import Refused
from backend.settings import Settings, load_settings

SECRET = "s" * 40


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return load_settings(tmp_path, **{"jwt_secret": SECRET, **changes})


async def asked(settings: Settings, *, user: str = "alice", client: str = "127.0.0.1", **headers: str) -> httpx.Response:
    routes = token_routes(settings, lambda user, seconds: f"{user}/{seconds}")
    app = Starlette(routes=routes, exception_handlers={Refused: on_refused})
    transport = httpx.ASGITransport(app=app, client=(client, 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as http:
        return await http.get(
            "/demo/token", params={"user": user}, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
async def test_a_page_on_this_machine_is_given_one(tmp_path: Path, host: str) -> None:
    answer = await asked(settings(tmp_path), user="앨리스", host=host)
    assert answer.status_code == 200
    assert answer.json() == {"token": f"앨리스/{TOKEN_SECONDS}", "expires_in": TOKEN_SECONDS}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "told",
    [
        {"client": "192.0.2.7"},
        {"client": "testclient"},
        {"host": "evil.example"},  # a name that was made to resolve to 127.0.0.1
        {"host": "127.0.0.1.evil.example:8000"},
        {"x_forwarded_for": "192.0.2.7"},  # a proxy on this machine speaks for somebody else
        {"forwarded": "for=192.0.2.7"},
    ],
)
async def test_anybody_else_finds_nothing(tmp_path: Path, told: dict[str, str]) -> None:
    assert (await asked(settings(tmp_path), **told)).status_code == 404  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"environment": "production"}, {"jwt_secret": None}, {"jwks_url": "https://issuer.example/keys"}])
def test_there_is_no_such_route_outside_development(tmp_path: Path, changes: dict[str, object]) -> None:
    assert token_routes(settings(tmp_path, **changes), lambda _user, _seconds: "") == []


def test_an_api_that_cannot_mint_has_no_such_route(tmp_path: Path) -> None:
    assert token_routes(settings(tmp_path), None) == []


@pytest.mark.parametrize("user", ["", "x" * 65, "a\nb"])
async def test_a_name_that_nobody_has_is_refused(tmp_path: Path, user: str) -> None:
    answer = await asked(settings(tmp_path), user=user)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
