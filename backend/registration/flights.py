"""One at a time per link, in the whole fleet: a lease in Valkey around whatever changes a link's tokens.

In: (user, provider). Out: the block runs while nobody else's does. The lease outlives every call that is made under it, so a holder that is
killed delays the next one and no more; a holder that stalls longer than that may overlap, which costs one refused token, never data.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from redis.asyncio import Redis

from backend.errors import EngineUnavailable
from backend.jobs.valkey import engine_errors

KEY = "moa:link:v1:{{{name}}}:flight"  # string: who flies; the name is a digest, since a `sub` may be an address
_PAUSES = (0.005, 0.1)  # seconds between two looks, doubling from the first to the second

_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class SingleFlight:
    """`lease`: seconds, longer than any call that is made under it."""

    def __init__(self, *, redis: Redis, lease: float) -> None:
        self._redis = redis
        self._lease_ms = round(lease * 1000)
        self._release = redis.register_script(_RELEASE)

    @asynccontextmanager
    async def alone(self, user_id: str, org_code: str) -> AsyncIterator[None]:
        """Waits for its turn as long as the caller's deadline lets it. Raises `EngineUnavailable`."""
        key, me = _key(user_id, org_code), uuid4().hex
        await self._taken(key, me)
        try:
            yield
        finally:
            with suppress(EngineUnavailable), engine_errors():  # then the lease ends by itself
                await self._release([key], [me])

    async def _taken(self, key: str, me: str) -> None:
        pause, longest = _PAUSES
        while True:
            with engine_errors():
                if await self._redis.set(key, me, nx=True, px=self._lease_ms):
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)


def _key(user_id: str, org_code: str) -> str:
    digest = hashlib.sha256(f"{org_code}\0{user_id}".encode()).hexdigest()
    return KEY.format(name=digest[:32])
