"""The keys that sign tokens in production, as the server of `MOA_JWKS_URL` publishes them (RFC 7517).

In: the name of a key, which anybody can invent. Out: the key, or a refusal. However many ask at once, and whatever they ask for, the
server hears one question in `COOLDOWN` seconds; its answer has a deadline and a bound. While it is away, the keys that it published last
are good for an hour. No exception of httpx leaves here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

import httpx
import structlog
from jwt import PyJWK, PyJWKSet

from backend.clock import Clock
from backend.errors import EngineUnavailable, Problem, Refused

COOLDOWN = 10.0  # seconds from one question to the next; so long a new key may be unknown here
FRESH = 300.0  # seconds after which the server is asked again anyway: so long a key that it withdrew may be good here
STALE = 3600.0  # the same while the server does not answer
PATIENCE = 5.0  # seconds for one answer, from the first byte to the last
_LARGEST = 256 * 1024  # bytes of an answer

log = structlog.get_logger()


class Unreadable(Exception):
    """What the server says is no set of keys."""


class PublishedKeys:
    """One per process. `patience`: seconds for one answer."""

    def __init__(self, url: str, *, clock: Clock, patience: float = PATIENCE) -> None:
        self._url = url
        self._clock = clock
        self._patience = patience
        self._keys: Mapping[str, PyJWK] = {}
        self._read_at: float | None = None  # on the monotonic clock, like the next; None: never
        self._asked_at: float | None = None
        self._asking: asyncio.Task[bool] | None = None
        self._is_well = False  # whether the last question was answered

    async def key(self, name: str) -> PyJWK:
        """Raises `Refused` with `token_invalid` when there is no such key; `EngineUnavailable` when that cannot be said now."""
        if name not in self._keys or self._age() >= FRESH:
            await self._ask()
        if name in self._keys and self._age() < STALE:
            return self._keys[name]
        if self._is_well:
            raise Refused(Problem.TOKEN_INVALID)
        raise EngineUnavailable("The server of MOA_JWKS_URL")

    def _age(self) -> float:
        """Of what we know, in seconds."""
        return float("inf") if self._read_at is None else self._clock.monotonic() - self._read_at

    async def _ask(self) -> None:
        """Joins the question that is under way, or asks, unless somebody did a moment ago."""
        if self._asking is None or self._asking.done():
            if self._asked_at is not None and self._clock.monotonic() - self._asked_at < COOLDOWN:
                return
            self._asked_at = self._clock.monotonic()
            self._asking = asyncio.create_task(self._read())
        self._is_well = await asyncio.shield(self._asking)  # whoever gives up takes nobody along

    async def _read(self) -> bool:
        """Whether the server has answered with keys."""
        try:
            async with asyncio.timeout(self._patience):
                published = PyJWKSet.from_dict(json.loads(await _fetched(self._url)))
        except Exception as exc:  # it may say anything
            log.warning("jwks.unavailable", error=type(exc).__name__)
            return False
        self._keys = {key.key_id: key for key in published.keys if key.key_id and key.public_key_use in {"sig", None}}
        self._read_at = self._clock.monotonic()
        return True


async def _fetched(url: str) -> bytes:
    """The answer's body. The environment's proxies are heeded: this is not an institution but part of the operator's own network."""
    # Making a client reads the CA certificates, which takes a while. The deadline is the caller's.
    client = await asyncio.to_thread(httpx.AsyncClient, timeout=None, headers={"Accept-Encoding": "identity"})
    async with client, client.stream("GET", url) as answer:
        if answer.status_code != 200 or "content-encoding" in answer.headers:
            raise Unreadable
        body = bytearray()
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > _LARGEST:
                raise Unreadable
        return bytes(body)
