"""The limit on requests, with the real Valkey."""

from __future__ import annotations

import pytest

from backend.errors import Problem, Refused
from backend.jobs.valkey import connect
from backend.rate_limit import RateLimit


async def test_a_user_may_spend_a_minutes_requests_at_once_and_then_waits(valkey_url: str) -> None:
    async with connect(valkey_url, timeout=5, pool=2) as redis:
        limit = RateLimit(redis=redis, per_minute=6)
        for _ in range(6):
            await limit.spend("alice")
        with pytest.raises(Refused) as refused:
            await limit.spend("alice")
    assert refused.value.problem is Problem.RATE_LIMITED
    assert refused.value.retry_after is not None
    assert 1 <= refused.value.retry_after <= 10


async def test_one_users_requests_leave_anothers_alone(valkey_url: str) -> None:
    async with connect(valkey_url, timeout=5, pool=2) as redis:
        limit = RateLimit(redis=redis, per_minute=1)
        await limit.spend("alice")
        await limit.spend("bob")


async def test_requests_pass_while_valkey_is_away() -> None:
    async with connect("unix:///nowhere/valkey.sock", timeout=0.2, pool=2) as redis:
        await RateLimit(redis=redis, per_minute=1).spend("alice")


async def test_a_valkey_whose_clock_was_set_back_keeps_nobody_out_for_longer_than_the_limit_itself(valkey_url: str) -> None:
    async with connect(valkey_url, timeout=5, pool=2) as redis:
        limit = RateLimit(redis=redis, per_minute=6)
        await limit.spend("alice")
        [key] = await redis.keys("moa:rate:*")
        await redis.set(key, int(await redis.get(key)) + 3_600_000)
        with pytest.raises(Refused) as refused:
            await limit.spend("alice")
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= 10
