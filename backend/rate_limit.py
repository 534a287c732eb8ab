"""How many requests one user may make, counted for the whole fleet in Valkey (GCRA, the generic cell rate algorithm of ITU-T I.371).

In: a user. Out: nothing, or `rate_limited` with the seconds to wait. Valkey away or silent: requests pass, since a limit is no reason to
refuse, nor to keep somebody waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
from math import ceil

from redis.asyncio import Redis

from backend.errors import EngineUnavailable, Problem, Refused
from backend.jobs.valkey import engine_errors

KEY = "moa:rate:v1:{{{name}}}"  # the theoretical arrival time of the next request in ms; the name is a digest of the user's

_PATIENCE = 1.0  # seconds

# KEYS 1 the user   ARGV 1 ms per request   2 ms of burst that are allowed.   Returns 0, or the ms to wait.
_SPEND = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- Never further ahead than a full bucket takes it, or a clock that is set back would keep its users out for as long.
local due = math.min(math.max(tonumber(redis.call('GET', KEYS[1]) or now), now), now + ARGV[1] + ARGV[2])
local wait = due - now - tonumber(ARGV[2])
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[1], due + ARGV[1], 'PX', math.ceil(due + ARGV[1] - now) + 1000)
return 0
"""


class RateLimit:
    """At most `per_minute` requests of a user in any minute, give or take what a full bucket allows at its start."""

    def __init__(self, *, redis: Redis, per_minute: int) -> None:
        self._spend = redis.register_script(_SPEND)
        self._step = 60_000 / per_minute
        self._burst = 60_000 - self._step

    async def spend(self, user_id: str) -> None:
        """Counts one request. Raises `Refused` with `rate_limited`."""
        name = hashlib.sha256(user_id.encode()).hexdigest()[:32]
        try:
            async with asyncio.timeout(_PATIENCE):
                with engine_errors():
                    wait = int(await self._spend([KEY.format(name=name)], [self._step, self._burst]))
        except (EngineUnavailable, TimeoutError):
            return
        if wait:
            raise Refused(Problem.RATE_LIMITED, retry_after=ceil(wait / 1000))
