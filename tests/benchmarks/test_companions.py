"""Processes beside the generator: they answer, they can be frozen, and they end with whoever asked."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.companions import Silent, companion
from benchmarks.handing_over import Load, _by_ours
from benchmarks.takers import RAW_WAITING, wire


async def test_a_companion_that_ends_is_told_of() -> None:
    with pytest.raises(Silent):
        async with companion("benchmarks.figures"):  # a module that serves nothing
            raise AssertionError("it has nothing to say")


@pytest.mark.parametrize("taker", [("leased",), ("stock", "--poll", "0.005")])
async def test_a_taker_notes_when_each_job_was_entered(taker: tuple[str, ...], valkey_url: str) -> None:
    redis = wire(valkey_url)
    async with companion("benchmarks.takers", *taker, "--url", valkey_url) as process:
        load = Load(process, _by_ours(redis))
        times = await load.picked_up([0.0, 0.01, 0.02])
        await load.hold(3)
        assert len(await load.picked_up([0.0])) == 1
    await redis.aclose()
    assert len(times) == 3
    assert all(0 < each < 5000 for each in times)


async def test_a_frozen_taker_takes_nothing_until_it_is_let_go(valkey_url: str) -> None:
    redis = wire(valkey_url)
    async with companion("benchmarks.takers", "raw", "--url", valkey_url) as process:
        await process.ask(all=True)
        process.freeze()
        await redis.rpush(RAW_WAITING, "n1", "n2", "n3")
        await asyncio.sleep(0.1)  # real time: another process must not move
        waiting = await redis.llen(RAW_WAITING)
        process.thaw()
        async with asyncio.timeout(5):
            while await redis.llen(RAW_WAITING):
                await asyncio.sleep(0.01)
        entered = (await process.ask(all=True))["entered"]
    await redis.aclose()
    assert waiting >= 2  # the first was handed over by Valkey
    assert [number for number, _ in entered] == [1, 2, 3]
