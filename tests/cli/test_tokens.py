from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest

from backend.cli.datafolder import DataFolder
from backend.clock import ManualClock
from backend.errors import Refused
from backend.identity import TokenVerifier
from backend.providers.user_ci import development_sub
from backend.settings import load_settings


@pytest.fixture
def folder(data: Path) -> Path:
    DataFolder(data).make_secrets()
    return data


def claims_of(token: str, folder: Path) -> dict[str, object]:
    secret = load_settings(folder).jwt_secret
    assert secret is not None
    return jwt.decode(token, secret.get_secret_value(), algorithms=["HS256"])


def test_only_the_token_is_printed(moa, folder: Path) -> None:
    said = moa("token", "--user", "alice", "--data", str(folder))
    assert said.code == 0
    assert said.err == ""
    assert claims_of(said.out.strip(), folder)["sub"] == "alice"
    assert said.out == said.out.strip() + "\n"


def test_a_token_names_an_invented_person_who_is_always_the_same(moa, folder: Path) -> None:
    first, second = (claims_of(moa("token", "--user", "앨리스", "--data", str(folder)).out.strip(), folder) for _ in range(2))
    assert (first["name"], first["phone_number"]) == (second["name"], second["phone_number"])
    assert str(first["phone_number"]).startswith("+82100")
    assert development_sub(str(first["user_ci"])) == "앨리스"


def test_scope_and_life_are_as_asked(moa, folder: Path) -> None:
    claims = claims_of(moa("token", "--user", "root", "--ops", "--ttl", "60", "--data", str(folder)).out.strip(), folder)
    assert str(claims["scope"]).split() == ["user", "ops"]
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 60


async def test_the_server_takes_it_until_it_expires(moa, folder: Path) -> None:
    token = moa("token", "--user", "alice", "--data", str(folder)).out.strip()
    secret = load_settings(folder).jwt_secret
    assert secret is not None
    today = TokenVerifier(secret=secret.get_secret_value(), jwks_url=None, clock=ManualClock(datetime.now(UTC)))
    assert (await today.verify(token)).user_id == "alice"
    later = TokenVerifier(secret=secret.get_secret_value(), jwks_url=None, clock=ManualClock(datetime(2100, 1, 1, tzinfo=UTC)))
    with pytest.raises(Refused):
        await later.verify(token)


async def test_it_names_the_service_that_the_server_asks_for(moa, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_JWT_AUDIENCE", "moa")
    monkeypatch.setenv("MOA_JWT_ISSUER", "https://login.example")
    token = moa("token", "--user", "alice", "--data", str(folder)).out.strip()
    secret = load_settings(folder).jwt_secret
    assert secret is not None
    asks = {"audience": "moa", "issuer": "https://login.example"}
    verifier = TokenVerifier(secret=secret.get_secret_value(), jwks_url=None, clock=ManualClock(datetime.now(UTC)), **asks)
    assert (await verifier.verify(token)).user_id == "alice"


def test_without_user_ci_in_development_the_claim_is_left_out(moa, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOA_USER_CI", "claim")
    assert "user_ci" not in claims_of(moa("token", "--user", "alice", "--data", str(folder)).out.strip(), folder)


def test_without_a_secret_it_says_where_one_comes_from(moa, data: Path) -> None:
    said = moa("token", "--user", "alice", "--data", str(data))
    assert (said.code, said.out) == (1, "")
    assert "run `moa up` once" in said.err


@pytest.mark.parametrize("user", ["", "x" * 256])
def test_a_user_that_no_server_takes_is_refused(moa, folder: Path, user: str) -> None:
    assert moa("token", "--user", user, "--data", str(folder)).code == 1
