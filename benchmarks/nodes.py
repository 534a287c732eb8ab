"""The nodes of a fleet in one process: each with a circuit of its own at every institution, before a provider that dies.

In, when asked: an institution that nobody called before, and for how long. Out: when it died, when each node refused its calls for the
first time (null: it never did), and the moments of all calls that met the dead one. `ours`: guard, reports, and an ear of its own for each
node; `pybreaker`: a breaker with its storage in memory for each node, as its documentation says.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any, Protocol

from pybreaker import STATE_CLOSED, CircuitBreaker, CircuitBreakerError

from backend.clock import SystemClock
from backend.coordinator.following import Following
from backend.coordinator.node import following
from backend.coordinator.stream import StreamedReports, ValkeyStream
from backend.coordinator.timing import FleetClock
from backend.errors import ProviderError, ProviderResting
from backend.jobs.valkey import connect
from backend.providers import outcomes
from backend.providers.calling.guard import CircuitGuard
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticing
from backend.providers.calls import Call, Scope
from backend.providers.circuits import Circuit, CircuitState, Decision
from backend.providers.outcomes import Failure
from backend.realtime.channels import dialer
from benchmarks.companions import Answering, serve
from benchmarks.leading import IN_A_ROW, OPTIONS

RATE = 200.0  # calls a second of the whole fleet
CALL_SECONDS = 0.005
HEALTHY = 0.5  # seconds before it dies
CLOCK = SystemClock()


class Node(Protocol):
    """One process of the fleet."""

    opened: dict[str, float]  # when it first refused, by institution

    async def call(self, org_code: str, attempt: Callable[[], Awaitable[None]]) -> None: ...


class Alone:
    """A breaker in each process."""

    def __init__(self) -> None:
        self.opened: dict[str, float] = {}
        self._breakers: dict[str, CircuitBreaker] = {}

    async def call(self, org_code: str, attempt: Callable[[], Awaitable[None]]) -> None:
        breaker = self._breakers.setdefault(org_code, CircuitBreaker(fail_max=IN_A_ROW, reset_timeout=60))
        try:
            with breaker.calling():
                await attempt()
        except (ProviderError, CircuitBreakerError):
            if breaker.current_state != STATE_CLOSED:
                self.opened.setdefault(org_code, time.monotonic())


class Together:
    """A mirror of the fleet's decisions in each process."""

    def __init__(self, mirrors: Mirrors, guard: CircuitGuard, ear: Following) -> None:
        self.opened: dict[str, float] = {}
        self.ear = ear
        self._guard = guard
        self._mirrors = mirrors
        ear.on_change(self._heard)

    def _heard(self, decision: Decision) -> None:
        if decision.state is CircuitState.OPEN:
            self.opened.setdefault(decision.circuit.org_code, time.monotonic())

    async def call(self, org_code: str, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._guard.through(org_code, _CALL, attempt)
        except ProviderResting:
            assert self._mirrors.state_of(Circuit(org_code, Scope.READ)) is CircuitState.OPEN
        except ProviderError:
            pass


_CALL: Call[None] = Call(api_code="BA01", scope=Scope.READ, method="GET", path="/", read=lambda _code, _body: None)


async def _died(nodes: list[Node], org_code: str, seconds: float, seed: int) -> dict[str, object]:
    """A Poisson process of calls; the busiest node makes twice as many as the next, as fleets are never even."""
    random, met, calls = Random(seed), list[float](), set[asyncio.Task[None]]()
    shares = [1 / (place + 1) for place in range(len(nodes))]
    died = time.monotonic() + HEALTHY

    async def attempt() -> None:
        await asyncio.sleep(CALL_SECONDS)
        if time.monotonic() >= died:
            met.append(time.monotonic())
            raise outcomes.failed(org_code, Failure.CONNECT)

    at = time.monotonic()
    while at < died + seconds:
        at += random.expovariate(RATE)
        await asyncio.sleep(at - time.monotonic())
        [node] = random.choices(nodes, shares)
        calls.add(task := asyncio.create_task(node.call(org_code, attempt)))
        task.add_done_callback(calls.discard)
    await asyncio.gather(*calls)
    return {"died": died, "opened": [node.opened.get(org_code) for node in nodes], "met": met}


async def _together(stack: AsyncExitStack, valkey_url: str) -> Together:
    redis = connect(valkey_url, timeout=5.0, pool=10)
    stack.push_async_callback(redis.aclose)
    mirrors = Mirrors(CLOCK)
    noticing = await stack.enter_async_context(Noticing(StreamedReports(ValkeyStream(redis)), CLOCK))
    guard = CircuitGuard(mirrors=mirrors, notices=noticing, clock=CLOCK, slow_after=lambda _: 3.0)
    ear = following(valkey=redis, dial=dialer(redis), mirrors=mirrors, options=OPTIONS, clock=FleetClock(CLOCK))
    hearing = asyncio.create_task(ear.run())
    stack.callback(hearing.cancel)
    return Together(mirrors, guard, ear)


def _begin(way: str, count: int, valkey_url: str) -> Callable[[], Awaitable[Answering]]:
    async def begin() -> Answering:
        stack = AsyncExitStack()  # as long as the process
        nodes: list[Node]
        if way == "ours":
            together = [await _together(stack, valkey_url) for _ in range(count)]
            for each in together:
                await each.ear.informed.wait()
            nodes = list(together)
        else:
            nodes = [Alone() for _ in range(count)]

        async def answer(question: dict[str, Any]) -> object:
            return await _died(nodes, question["org_code"], question["seconds"], question["seed"])

        return answer

    return begin


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes")
    parser.add_argument("way", choices=("ours", "pybreaker"))
    parser.add_argument("count", type=int)
    parser.add_argument("--valkey", required=True, help="unix://…")
    asked = parser.parse_args()
    serve(_begin(asked.way, asked.count, asked.valkey))


if __name__ == "__main__":
    main()
