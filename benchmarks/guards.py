"""What stands around an attempt, as a process of its own: nothing, pybreaker by itself, or our guard; and the stream of what was noticed.

In, when asked: for how long. Out: the CPU of a call in us, beside the attempt alone in the same breath; of the stream, percent of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from pybreaker import CircuitBreaker, CircuitBreakerError

from backend.clock import SystemClock
from backend.errors import ProviderResting
from backend.providers.calling.guard import CircuitGuard, slow_after
from backend.providers.calling.mirror import Mirrors
from backend.providers.calling.noticing import Noticed, Noticing
from backend.providers.calls import Call, Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions, Report
from backend.providers.contract import ApiType
from backend.providers.directory import directory_of
from backend.providers.outcomes import Failure, Weight
from backend.settings import Settings
from benchmarks.companions import Answering, serve

BANK = "A1MOABK001"
CALL: Call[None] = Call(
    api_code="BA01", scope=Scope.READ, method="GET", path="/", read=lambda _c, _b: None, api_type=ApiType.USER_REFRESH, user="u" * 22
)
CLOCK = SystemClock()
IN_ONE_BREATH = 2_000  # calls of one way, before the other has its turn
A_SECOND = 5_000  # calls
TICK = 0.01  # seconds between two handfuls of them
INSTITUTIONS, APIS, CALLS_OF_A_USER, ONE_FAILS_IN = 20, 8, 10, 50

Once = Callable[[], Awaitable[None]]


async def attempt() -> None:
    """A call that takes no time."""


def by_pybreaker() -> Once:
    """As its documentation says, with its storage in memory."""
    breaker = CircuitBreaker()

    async def once() -> None:
        with breaker.calling():
            await attempt()

    return once


def by_pybreaker_open() -> Once:
    """The same, refused, and the error caught."""
    breaker = CircuitBreaker()
    breaker.open()

    async def once() -> None:
        try:
            with breaker.calling():
                await attempt()
        except CircuitBreakerError:
            return

    return once


class _Kept:
    """Takes notices as the buffer does; what becomes of them is measured apart."""

    def __init__(self) -> None:
        self.notice = deque[Noticed](maxlen=IN_ONE_BREATH).append


def _guard(*decisions: Decision) -> CircuitGuard:
    settings = Settings(_env_file=None, data=Path())  # type: ignore[call-arg]
    directory = directory_of(settings)
    mirrors = Mirrors(CLOCK)
    mirrors.whole(Decisions("benchmark", decisions))
    return CircuitGuard(mirrors=mirrors, notices=_Kept(), clock=CLOCK, slow_after=slow_after(lambda: directory, settings))


def by_guard() -> Once:
    """A closed circuit: admitted, judged and noted."""
    guard = _guard()

    async def once() -> None:
        await guard.through(BANK, CALL, attempt)

    return once


def by_guard_open() -> Once:
    """An open one: refused with the moment to come back at, and the error caught."""
    circuit = Circuit(BANK, Scope.READ)
    guard = _guard(Decision(circuit=circuit, state=CircuitState.OPEN, epoch=1, reason="benchmark", retry_in_ms=3_600_000))

    async def once() -> None:
        try:
            await guard.through(BANK, CALL, attempt)
        except ProviderResting:
            return

    return once


async def alone() -> None:
    """The attempt with nothing around it, in a coroutine as the others are."""
    await attempt()


WAYS: dict[str, Callable[[], Once]] = {
    "attempt": lambda: alone,
    "pybreaker": by_pybreaker,
    "pybreaker-open": by_pybreaker_open,
    "guard": by_guard,
    "guard-open": by_guard_open,
}


async def called(once: Once, seconds: float) -> dict[str, float]:
    """CPU of a call in us, and of it what is beyond the attempt: both ways take turns."""
    cpu = {alone: 0.0, once: 0.0}
    rounds, ends = 0, time.monotonic() + seconds
    while time.monotonic() < ends:
        rounds += 1
        for way in {alone: None, once: None}:
            cpu[way] += await _breath(way)
    a_call = 1e6 / (rounds * IN_ONE_BREATH)
    return {"cpu": cpu[once] * a_call, "beyond": (cpu[once] - cpu[alone]) * a_call}


async def _breath(way: Once) -> float:
    begun = time.process_time()
    for _ in range(IN_ONE_BREATH):
        await way()
    return time.process_time() - begun


class _Encoding:
    """A port that writes reports down and keeps nothing."""

    def __init__(self) -> None:
        self.calls = self.sent = 0
        self._encode = msgspec.msgpack.Encoder().encode

    async def send(self, report: Report) -> None:
        self.sent += len(self._encode(report))
        self.calls += len(report.calls)


async def streamed(seconds: float) -> dict[str, float]:
    """Percent of a core that `A_SECOND` calls a second take from the notice to the report's bytes, beside the pace alone."""
    port = _Encoding()
    alone_core, _ = await _paced(seconds / 2, lambda _noticed: None)
    async with Noticing(port, CLOCK) as noticing:
        core, made = await _paced(seconds / 2, noticing.notice)
    if port.calls != made:
        raise AssertionError("not all that was noticed was told")
    return {"core": core, "beyond": core - alone_core, "bytes": port.sent / made}


async def _paced(seconds: float, notice: Callable[[Noticed], None]) -> tuple[float, int]:
    """Percent of a core, and how many notices were made."""
    a_tick = round(A_SECOND * TICK)
    ticks = round(seconds / TICK)
    begun, cpu = time.monotonic(), time.process_time()
    for tick in range(ticks):
        for number in range(tick * a_tick, (tick + 1) * a_tick):
            notice(_noticed(number))
        await asyncio.sleep(max(begun + (tick + 1) * TICK - time.monotonic(), 0))
    return 100 * (time.process_time() - cpu) / (time.monotonic() - begun), ticks * a_tick


def _noticed(number: int) -> Noticed:
    failed = number % ONE_FAILS_IN == 0
    return Noticed(
        circuit=_CIRCUITS[number % INSTITUTIONS],
        epoch=1,
        weight=Weight.FAILURE if failed else Weight.OK,
        began=CLOCK.monotonic() - 0.05,
        took=0.05,
        api_code=_APIS[number % APIS],
        api_type=ApiType.USER_REFRESH,
        reason=Failure.RESET if failed else None,
        user=f"{number // CALLS_OF_A_USER:022d}",
    )


_CIRCUITS = tuple(Circuit(f"A1MOABK{number:03d}", Scope.READ) for number in range(INSTITUTIONS))
_APIS = tuple(f"BA{number:02d}" for number in range(APIS))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guards")
    parser.add_argument("way", choices=(*WAYS, "stream"))
    way = parser.parse_args().way

    async def begin() -> Answering:
        if way in WAYS:
            once = WAYS[way]()
            return lambda question: called(once, question["seconds"])
        return lambda question: streamed(question["seconds"])

    serve(begin)


if __name__ == "__main__":
    main()
