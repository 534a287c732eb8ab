"""Calls that meet are made as one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from backend.coalescing import Coalesced


class Calls:
    """Doubles what it is given, when it may."""

    def __init__(self) -> None:
        self.made: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.made.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


async def test_what_comes_at_once_goes_together_and_each_gets_its_own() -> None:
    calls = Calls()
    double = Coalesced(calls, most=4)
    assert await asyncio.gather(*(double(item) for item in range(6))) == [0, 2, 4, 6, 8, 10]
    assert calls.made == [[0, 1, 2, 3], [4, 5]]


async def test_one_alone_waits_for_nobody_and_who_comes_meanwhile_goes_next() -> None:
    calls = Calls()
    calls.gate.clear()
    double = Coalesced(calls, most=4)
    first = asyncio.create_task(double(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(double(item)) for item in (2, 3)]
    await asyncio.sleep(0)
    assert calls.made == [[1]]
    calls.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6]
    assert calls.made == [[1], [2, 3]]


async def test_a_failure_is_everybodys_who_shared_it_and_nobody_elses() -> None:
    double = Coalesced(Calls(), most=2)
    answers = await asyncio.gather(*(double(item) for item in (13, 1, 2)), return_exceptions=True)
    assert [isinstance(answer, ValueError) for answer in answers] == [True, True, False]
    assert await double(4) == 8


async def test_a_caller_that_was_cancelled_is_left_out_and_the_others_are_served() -> None:
    calls = Calls()
    double = Coalesced(calls, most=9)
    tasks = [asyncio.create_task(double(item)) for item in (1, 2, 3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, third) == (2, 6)
    assert isinstance(second, asyncio.CancelledError)
    assert calls.made == [[1, 3]]
