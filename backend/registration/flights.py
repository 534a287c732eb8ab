"""One at a time per link, in the whole fleet: a lease in Valkey around whatever changes a link's tokens.

In: (user, provider). Out: a flight, while nobody else has one. The lease is short, and prolonged until the flight ends: a holder that
is killed delays the next one by that and no more, however long a call may take. A holder that stalls for longer than its lease may
overlap with the next, which costs one refused token, never data.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from backend.coalescing import Coalesced
from backend.errors import EngineUnavailable
from backend.jobs.valkey import engine_errors

KEY = "moa:link:v1:{{{name}}}:flight"  # string: who flies; the name is a digest, since a `sub` may be an address
MOST_AT_ONCE = 100  # flights that are taken, or ended, in one round trip
_Named = tuple[str, str]  # key, who
_PAUSES = (0.005, 0.1)  # seconds between two looks, doubling from the first to the second

# Takes and prolongs alike, so that a Valkey that has forgotten us is told again.
# KEYS 1 the flight   ARGV 1 who   2 lease in ms.   Returns 0: another flies.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Flight:
    """A turn that was taken. `end()`, or leaving the block, gives it to the next."""

    def __init__(self, end: Callable[[], Awaitable[None]]) -> None:
        self.end = end

    async def __aenter__(self) -> Flight:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()


class SingleFlight:
    """`lease`: seconds after which a silent holder is replaced."""

    def __init__(self, *, redis: Redis, lease: float) -> None:
        self._redis = redis
        self._lease = lease
        self._hold = redis.register_script(_HOLD)
        self._release = redis.register_script(_RELEASE)
        self._held = Coalesced(self._hold_each, most=MOST_AT_ONCE)
        self._released = Coalesced(self._release_each, most=MOST_AT_ONCE)

    async def begin(self, user_id: str, org_code: str) -> Flight:
        """Waits for its turn as long as the caller's deadline lets it; the caller ends the flight. Raises `EngineUnavailable`."""
        key, me = _key(user_id, org_code), uuid4().hex
        await self._taken(key, me)
        holding = asyncio.create_task(self._holding(key, me))

        async def end() -> None:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
            await asyncio.create_task(self._given_back(key, me))

        return Flight(end)

    async def _given_back(self, key: str, me: str) -> None:
        with suppress(EngineUnavailable):  # then the lease ends by itself
            await self._released((key, me))

    async def _taken(self, key: str, me: str) -> None:
        pause, longest = _PAUSES
        while not await self._held((key, me)):
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def _holding(self, key: str, me: str) -> None:
        """Prolongs the lease until the flight ends, or until another flies."""
        held = True
        while held:
            await asyncio.sleep(self._lease / 3)
            with suppress(EngineUnavailable):
                held = await self._held((key, me))

    async def _hold_each(self, flights: Sequence[_Named]) -> list[bool]:
        lease = round(self._lease * 1000)
        return await self._each(self._hold, [(key, [me, lease]) for key, me in flights])

    async def _release_each(self, flights: Sequence[_Named]) -> list[bool]:
        return await self._each(self._release, [(key, [me]) for key, me in flights])

    async def _each(self, script: AsyncScript, calls: Sequence[tuple[str, list[str | int]]]) -> list[bool]:
        """The jobs of a registration begin together, and speak to Valkey together."""
        with engine_errors():
            if len(calls) == 1:  # a pipeline asks first whether Valkey knows the script
                (key, arguments), *_ = calls
                return [bool(await script([key], arguments))]
            pipeline = self._redis.pipeline(transaction=False)
            for key, arguments in calls:
                await script([key], arguments, client=pipeline)
            return [bool(answer) for answer in await pipeline.execute()]


def _key(user_id: str, org_code: str) -> str:
    digest = hashlib.sha256(f"{org_code}\0{user_id}".encode()).hexdigest()
    return KEY.format(name=digest[:32])
