"""The keys of a JWKS URL: whatever tokens come and however ill that server is, it is asked rarely, and nobody waits for long."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from structlog.testing import capture_logs

from backend.clock import ManualClock
from backend.errors import Problem, Refused
from backend.identity import TokenVerifier
from backend.jwks import COOLDOWN, FRESH, STALE

NOON = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
KEYS = {"old": ec.generate_private_key(ec.SECP256R1()), "new": ec.generate_private_key(ec.SECP256R1())}


def public(*kids: str) -> bytes:
    keys = [{**ECAlgorithm.to_jwk(KEYS[kid].public_key(), as_dict=True), "kid": kid} for kid in kids]
    return json.dumps({"keys": keys}).encode()


@dataclass
class Server:
    """Who publishes the keys. It says the parts of its answer one after the other; None: it says nothing more, and does not hang up."""

    port: int = 0
    status: int = 200
    body: list[bytes | None] = field(default_factory=lambda: [public("old")])
    asked: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"location", b"/elsewhere")]})
        for part in self.body:
            if part is None:
                await receive()
                await receive()  # the client hangs up
                return
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made, listener = Server(), socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    uvicorn_server = uvicorn.Server(uvicorn.Config(made, log_level="error", lifespan="off"))
    running = asyncio.create_task(uvicorn_server.serve(sockets=[listener]))
    while not uvicorn_server.started:
        await asyncio.sleep(0.001)
    yield made
    uvicorn_server.should_exit = uvicorn_server.force_exit = True
    await running


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def verifier(server: Server, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(secret=None, jwks_url=f"http://127.0.0.1:{server.port}/jwks", clock=clock)


def token(kid: str | None = None, **claims: Any) -> str:
    """Signed by a key of ours; without a name, by one that nobody knows."""
    payload = {"sub": "anna", "scope": "user", "exp": (NOON + timedelta(days=1)).timestamp(), **claims}
    return jwt.encode(payload, KEYS[kid or "old"], algorithm="ES256", headers={"kid": kid or uuid4().hex})


async def said(verifier: TokenVerifier, *tokens: str) -> list[str]:
    """What becomes of them when they come at once: a user, or the problem."""

    async def of(one: str) -> str:
        try:
            return (await verifier.verify(one)).user_id
        except Refused as exc:
            return exc.problem.value

    return await asyncio.gather(*map(of, tokens))


Moved = Callable[[float], None]


@pytest.fixture
def moved(clock: ManualClock) -> Moved:
    return lambda seconds: clock.move(timedelta(seconds=seconds))


async def test_invented_names_of_keys_cause_one_question_in_a_while(verifier: TokenVerifier, server: Server, moved: Moved) -> None:
    for rounds in range(1, 4):
        assert set(await said(verifier, *(token() for _ in range(100)))) == {Problem.TOKEN_INVALID}
        assert set(await said(verifier, *(token() for _ in range(100)))) == {Problem.TOKEN_INVALID}
        assert await said(verifier, token("old")) == ["anna"]
        assert server.asked == rounds
        moved(COOLDOWN)


async def test_the_first_tokens_share_one_question(verifier: TokenVerifier, server: Server) -> None:
    assert set(await said(verifier, *[token("old")] * 50)) == {"anna"}
    assert server.asked == 1


async def test_a_new_key_is_found_and_an_old_one_goes(verifier: TokenVerifier, server: Server, moved: Moved) -> None:
    assert await said(verifier, token("old"), token("new")) == ["anna", Problem.TOKEN_INVALID]
    server.body = [public("new")]
    moved(COOLDOWN)
    assert await said(verifier, token("new")) == ["anna"]
    assert await said(verifier, token("old")) == [Problem.TOKEN_INVALID]


async def test_a_key_that_was_withdrawn_is_noticed_without_a_new_one(verifier: TokenVerifier, server: Server, moved: Moved) -> None:
    await said(verifier, token("old"))
    server.body = [public("new")]
    moved(FRESH)
    assert await said(verifier, token("old")) == [Problem.TOKEN_INVALID]


ILL: dict[str, tuple[int, list[bytes | None]]] = {
    "fails": (500, [b"{}"]),
    "sends elsewhere": (302, [b""]),
    "talks rubbish": (200, [b"<html>"]),
    "has no keys": (200, [b'{"keys":[]}']),
    "has an odd list": (200, [b"[1]"]),
    "has odd keys": (200, [b'{"keys":[1,{"kty":"EC"},{"kid":2}]}']),
    "never ends": (200, [b"x" * 100_000] * 30),
    "nests": (200, [b"[" * 100_000]),
    "falls silent": (200, [b"{", None]),
}


@pytest.mark.parametrize(("status", "body"), ILL.values(), ids=ILL)
async def test_an_ill_server_is_our_trouble_and_left_alone_for_a_while(
    server: Server, clock: ManualClock, moved: Moved, status: int, body: list[bytes | None]
) -> None:
    verifier = TokenVerifier(secret=None, jwks_url=f"http://127.0.0.1:{server.port}/jwks", clock=clock, patience=0.5)
    server.status, server.body = status, body
    with capture_logs() as lines:
        for _ in range(2):
            assert set(await said(verifier, *[token("old")] * 20, *(token() for _ in range(20)))) == {Problem.ENGINE_UNAVAILABLE}
    assert server.asked == 1
    assert [line["event"] for line in lines] == ["jwks.unavailable"]
    server.status, server.body = 200, [public("old")]
    moved(COOLDOWN)
    assert await said(verifier, token("old"), token()) == ["anna", Problem.TOKEN_INVALID]


async def test_keys_outlive_their_server_for_an_hour(verifier: TokenVerifier, server: Server, moved: Moved) -> None:
    await said(verifier, token("old"))
    server.status = 500
    moved(STALE - 1)
    assert await said(verifier, *[token("old")] * 20, token()) == ["anna"] * 20 + [Problem.ENGINE_UNAVAILABLE]
    assert server.asked == 2
    moved(COOLDOWN)
    assert await said(verifier, token("old")) == [Problem.ENGINE_UNAVAILABLE]


async def test_a_token_without_the_name_of_a_key_asks_nobody(verifier: TokenVerifier, server: Server) -> None:
    nameless = jwt.encode({"sub": "anna", "scope": "user", "exp": 9e9}, KEYS["old"], algorithm="ES256")
    assert await said(verifier, nameless, "no.token.really") == [Problem.TOKEN_INVALID] * 2
    assert server.asked == 0


async def test_whoever_gives_up_takes_nobody_along(verifier: TokenVerifier, server: Server) -> None:
    first = asyncio.create_task(said(verifier, token("old")))
    await asyncio.sleep(0)
    second = asyncio.create_task(said(verifier, token("old")))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ["anna"]
    assert server.asked == 1
