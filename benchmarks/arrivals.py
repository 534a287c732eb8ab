"""An open loop: people come when they come, however long those before them take.

In: a rate, a seed, what each does. Out: what each came back with. Arrivals are Poisson and seeded; each is told its *intended* moment,
from which it must measure, so that a generator or a server that falls behind cannot hide it (coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import Struct

from benchmarks.model import Round

T = TypeVar("T")

START_SECONDS = 0.05  # from the call to the beginning of a paced load
LEAD_SECONDS = 1.0  # an arrival is woken so long before its moment, for what it has to prepare
LONGEST_SECONDS = 90.0  # of one arrival; then the round has failed


class Arrival(Struct, frozen=True, kw_only=True):
    """One person."""

    number: int  # from 0
    user: str  # distinct over all rounds and variants
    moment: float  # Unix seconds
    counts: bool  # False: warm-up

    async def come(self) -> None:
        """Returns at the moment."""
        await asyncio.sleep(self.moment - time.time())


def offsets(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process in [0, seconds), by a generator of its own."""
    draw = random.Random(seed)
    moments, at = [], draw.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += draw.expovariate(rate)
    return moments


async def paced(moments: Sequence[float], deed: Callable[[int], Awaitable[None]]) -> list[float]:
    """A load of short deeds, each a task of its own: begins the n-th (from 0) at its moment, in seconds from now, whatever the others do.

    Returns how late each began, in seconds, when the last has ended. Raises what a deed raises.
    """
    start = time.monotonic() + START_SECONDS
    late = [0.0] * len(moments)

    async def one(number: int) -> None:
        late[number] = time.monotonic() - start - moments[number]
        await deed(number)

    async with asyncio.TaskGroup() as group:
        for number, moment in enumerate(moments):
            wait = start + moment - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            group.create_task(one(number))
    return late


async def offered(each: Round, deed: Callable[[Arrival], Awaitable[T]]) -> list[tuple[Arrival, T]]:
    """Runs one round's arrivals to their ends. Raises what one of them raises, TimeoutError for one without end."""
    plan = each.plan
    start = time.time() + LEAD_SECONDS
    arrivals = [
        Arrival(
            number=number,
            user=f"bench {plan.seed} {each.variant} {each.number} {number}",
            moment=start + at,
            counts=at >= plan.warm_up,
        )
        for number, at in enumerate(offsets(plan.rate, plan.warm_up + plan.seconds, each.seed))
    ]

    async def one(arrival: Arrival) -> tuple[Arrival, T]:
        await asyncio.sleep(arrival.moment - LEAD_SECONDS - time.time())
        async with asyncio.timeout(LONGEST_SECONDS):
            return arrival, await deed(arrival)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(arrival)) for arrival in arrivals]
    return [task.result() for task in tasks]
