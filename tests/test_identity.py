"""Who a token says is calling; every token that is not good is refused, and none is repeated."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from backend.clock import ManualClock
from backend.errors import Problem, Refused
from backend.identity import TokenVerifier, bearer_token, identify

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SECRET = "a secret for tests that is long enough"
GOOD: dict[str, Any] = {"sub": "anna", "scope": "user", "exp": (NOON + timedelta(hours=1)).timestamp()}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def verifier(clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(secret=SECRET, jwks_url=None, clock=clock)


def signed(**claims: Any) -> str:
    return jwt.encode({**GOOD, **claims}, SECRET, algorithm="HS256")


def asking(authorization: str | None, path: bytes = b"/", query: bytes = b"") -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    return Request({"type": "http", "method": "GET", "path": path.decode(), "query_string": query, "headers": headers})


async def refusal(verifier: TokenVerifier, token: str) -> Problem:
    with pytest.raises(Refused) as refused:
        await verifier.verify(token)
    assert token not in str(refused.value) + refused.value.detail
    return refused.value.problem


async def test_a_good_token_becomes_an_identity_that_shows_nothing(verifier: TokenVerifier) -> None:
    personal = {"user_ci": "Y2k=", "name": "김모아", "phone_number": "+821012345678"}
    identity = await verifier.verify(signed(scope="user ops", **personal))
    assert (identity.user_id, identity.scopes, identity.expires_at) == ("anna", {"user", "ops"}, NOON + timedelta(hours=1))
    assert (identity.user_ci, identity.name, identity.phone_number) == tuple(personal.values())
    assert str(identity) == repr(identity) == "Identity(…)"


async def test_a_scope_may_be_a_list(verifier: TokenVerifier) -> None:
    assert (await verifier.verify(signed(scope=["user", "ops"]))).scopes == {"user", "ops"}


OURS = {"aud": "moa", "iss": "https://login.example"}


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        (OURS, True),
        (OURS | {"aud": ["wallet", "moa"]}, True),
        (OURS | {"aud": "wallet"}, False),
        (OURS | {"aud": []}, False),
        (OURS | {"aud": 7}, False),
        (OURS | {"iss": "https://login.example/"}, False),
        ({"aud": "moa"}, False),
        ({"iss": "https://login.example"}, False),
        ({}, False),
    ],
)
async def test_a_token_that_was_made_for_another_service_is_refused(clock: ManualClock, claims: dict[str, Any], good: bool) -> None:
    """One who signs for many services says `user` of all of them."""
    verifier = TokenVerifier(secret=SECRET, jwks_url=None, clock=clock, audience=OURS["aud"], issuer=OURS["iss"])
    if good:
        assert (await verifier.verify(signed(**claims))).user_id == "anna"
    else:
        assert await refusal(verifier, signed(**claims)) is Problem.TOKEN_INVALID


async def test_whom_a_token_is_for_matters_to_nobody_who_was_not_told(verifier: TokenVerifier) -> None:
    assert (await verifier.verify(signed(aud="wallet", iss="anybody"))).user_id == "anna"


async def test_a_token_ends_at_its_moment(verifier: TokenVerifier, clock: ManualClock) -> None:
    token = signed()
    clock.move(timedelta(hours=1) - timedelta(milliseconds=1))
    await verifier.verify(token)
    clock.move(timedelta(milliseconds=1))
    assert await refusal(verifier, token) is Problem.TOKEN_EXPIRED


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_secret_is_refused_at_once(length: int, clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        TokenVerifier(secret="s" * length, jwks_url=None, clock=clock)


async def test_without_a_key_nobody_is_let_in(clock: ManualClock) -> None:
    assert await refusal(TokenVerifier(secret=None, jwks_url=None, clock=clock), signed()) is Problem.TOKEN_INVALID


@pytest.mark.parametrize("half", ["\ud800", "\0"])
@pytest.mark.parametrize("claim", ["sub", "user_ci", "name", "phone_number"])
async def test_text_that_nothing_can_store_is_refused(verifier: TokenVerifier, claim: str, half: str) -> None:
    assert await refusal(verifier, signed(**{claim: f"a{half}b"})) is Problem.TOKEN_INVALID


@pytest.mark.parametrize(("sub", "is_good"), [("a" * 255, True), ("a" * 256, False), ("한" * 85, True), ("한" * 86, False), ("", False)])
async def test_a_sub_is_counted_in_bytes(verifier: TokenVerifier, sub: str, is_good: bool) -> None:
    if is_good:
        assert (await verifier.verify(signed(sub=sub))).user_id == sub
    else:
        assert await refusal(verifier, signed(sub=sub)) is Problem.TOKEN_INVALID


claims = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changed=st.dictionaries(st.sampled_from(["sub", "scope", "exp", "nbf", "iat", "aud", "iss", "jti", "name", "user_ci"]), claims))
async def test_whatever_the_claims_are_the_answer_is_an_identity_or_a_refusal(verifier: TokenVerifier, changed: dict[str, Any]) -> None:
    payload = json.dumps({**GOOD, **changed}).encode()
    token = jwt.api_jws.encode(payload, SECRET, algorithm="HS256")
    with contextlib.suppress(Refused):
        (await verifier.verify(token)).user_id.encode()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=40) | st.just(b"[" * 3000) | st.just(b'{"alg":"HS256"}'), min_size=3, max_size=3))
async def test_whatever_the_bytes_are_they_are_refused(verifier: TokenVerifier, parts: list[bytes]) -> None:
    token = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    with pytest.raises(Refused):
        await verifier.verify(token)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer  ", "Basic YTpi", "x.y.z"])
def test_a_request_without_a_token(authorization: str | None) -> None:
    with pytest.raises(Refused) as refused:
        bearer_token(asking(authorization, query=b"token=" + signed().encode()))
    assert refused.value.problem is Problem.UNAUTHENTICATED


def test_the_word_bearer_is_read_in_any_case() -> None:
    assert bearer_token(asking("bEARER  x.y.z ")) == "x.y.z"


async def test_the_scope_that_is_needed(verifier: TokenVerifier) -> None:
    assert (await identify(asking(f"Bearer {signed()}"), verifier, scope="user")).user_id == "anna"
    with pytest.raises(Refused) as refused:
        await identify(asking(f"Bearer {signed(scope='users ops')}"), verifier, scope="user")
    assert refused.value.problem is Problem.SCOPE_MISSING


@pytest.mark.parametrize(
    ("authorization", "code", "who"),
    [("user", Problem.SCOPE_MISSING, "anna"), (None, Problem.UNAUTHENTICATED, None), ("eyJ.eyJ.x", Problem.TOKEN_INVALID, None)],
)
async def test_whoever_is_refused_what_operators_may_do_is_logged(
    verifier: TokenVerifier, authorization: str | None, code: Problem, who: str | None
) -> None:
    request = asking(f"Bearer {signed() if authorization == 'user' else authorization}" if authorization else None)
    with capture_logs() as lines, pytest.raises(Refused):
        await identify(request, verifier, scope="ops")
    assert [(line["event"], line["path"], line["code"], line["who"]) for line in lines] == [("operator.denied", "/", code, who)]
    with capture_logs() as lines, contextlib.suppress(Refused):
        await identify(request, verifier, scope="user")
    assert lines == []


# --- keys from an address --------------------------------------------------------------------------------------------

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
async def jwks_url() -> AsyncIterator[str]:
    """Serves the public halves of both keys."""
    keys = [{**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "r"}]
    keys += [{**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "e"}]

    async def jwks(_: Request) -> JSONResponse:
        return JSONResponse({"keys": keys})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/jwks", jwks)]), log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"
    server.should_exit = server.force_exit = True
    await running


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "r"), (EC_KEY, "ES256", "e")])
async def test_tokens_of_production(jwks_url: str, clock: ManualClock, key: PrivateKeyTypes, algorithm: str, kid: str) -> None:
    verifier = TokenVerifier(secret=None, jwks_url=jwks_url, clock=clock)
    token = jwt.encode(GOOD, key, algorithm=algorithm, headers={"kid": kid})  # type: ignore[arg-type]
    assert (await verifier.verify(token)).user_id == "anna"
    assert await refusal(verifier, jwt.encode(GOOD, key, algorithm=algorithm, headers={"kid": "x"})) is Problem.TOKEN_INVALID  # type: ignore[arg-type]


async def test_the_algorithm_is_never_taken_from_the_token(jwks_url: str, clock: ManualClock) -> None:
    verifier = TokenVerifier(secret=SECRET, jwks_url=jwks_url, clock=clock)
    assert await refusal(verifier, jwt.encode(GOOD, SECRET, algorithm="HS256", headers={"kid": "r"})) is Problem.TOKEN_INVALID
    assert await refusal(verifier, jwt.encode(GOOD, None, algorithm="none", headers={"kid": "r"})) is Problem.TOKEN_INVALID


async def test_keys_that_cannot_be_had_are_our_trouble_not_the_tokens(clock: ManualClock) -> None:
    verifier = TokenVerifier(secret=None, jwks_url="http://127.0.0.1:1/jwks", clock=clock)
    token = jwt.encode(GOOD, RSA_KEY, algorithm="RS256", headers={"kid": "r"})
    assert await refusal(verifier, token) is Problem.ENGINE_UNAVAILABLE
