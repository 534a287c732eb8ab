"""Stands before every outside call of this process: lets it through or refuses it by what the fleet decided, and notes how it ended.

In: a call and the attempt to make it (`transport.Guard`). Out: what the attempt gives, or `ProviderResting` without an attempt. pybreaker
admits and refuses (`mirror.py`); how a call ended is judged here by the catalogue, never by pybreaker's counters. On the road of a call
nothing is awaited but the attempt, and nothing is asked of the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pybreaker import STATE_OPEN, CircuitBreaker, CircuitBreakerError

from backend.clock import Clock
from backend.errors import ProviderError, ProviderResting
from backend.providers import outcomes
from backend.providers.calling.mirror import Mirror, Mirrors
from backend.providers.calling.noticing import Noticed, Noticing, Reports
from backend.providers.calling.transport import Guard
from backend.providers.calling.wire import stood_in_line
from backend.providers.calls import Call
from backend.providers.circuits import CircuitState, Decision
from backend.providers.directory import Directory
from backend.settings import Settings

T = TypeVar("T")


class Notices(Protocol):
    """Who hears how calls ended."""

    def notice(self, noticed: Noticed) -> None:
        """Never waits."""
        ...


class CircuitGuard:
    """`transport.Guard` by the fleet's circuits."""

    def __init__(self, *, mirrors: Mirrors, notices: Notices, clock: Clock, slow_after: Callable[[str], float]) -> None:
        """`slow_after(org_code)`: seconds after which an answer counts as slow."""
        self._mirrors = mirrors
        self._notices = notices
        self._clock = clock
        self._slow_after = slow_after

    def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> Coroutine[Any, Any, T]:
        """Raises `ProviderResting` without an attempt while the circuit refuses."""
        mirror = self._mirrors.of(org_code, call.scope)
        return self.tried(mirror, mirror.breaker, call, attempt)

    def as_probe(self, decision: Decision, *, held: Callable[[], bool]) -> Guard:
        """The guard of the one who may probe. `decision`: the half-open state that this probe was granted with; it is applied if newer.

        `held()`: whether the probe's lease still runs, by the holder's own clock. While it does, calls of that circuit pass one at a time
        as long as it is half-open, and without a ramp once it has closed, so that the job that probed comes to its end; an open
        circuit refuses them too. Without the lease, and for other circuits, this is the guard that all have.
        """
        mirror = self._mirrors.of(decision.circuit.org_code, decision.circuit.scope)
        mirror.apply(decision)
        return _Probe(self, mirror, held)

    async def tried(self, mirror: Mirror, breaker: CircuitBreaker, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        """As `through`, by the mirror's `breaker` or its `trial`."""
        epoch, began = mirror.epoch, self._clock.monotonic()
        try:
            if not mirror.settled:
                mirror.settle(began)
                if mirror.state == STATE_OPEN:
                    breaker.call(_never)  # refuses as the block below would, without the third of a refusal that entering one costs
            with breaker.calling():
                answer = await attempt()
        except CircuitBreakerError:
            mirror.refused += 1
            raise ProviderResting(mirror.circuit.org_code, mirror.refusal, retry_at=mirror.comes_back(began)) from None
        except ProviderError as error:
            self._note(mirror, epoch, began, call, error)
            raise
        except BaseException:  # cancelled, or a fault of ours: a call was made, and says nothing about the provider
            took = self._clock.monotonic() - began
            self._notices.notice(Noticed(mirror.circuit, epoch, None, began, took, call.api_code, call.api_type, None, call.user))
            raise
        self._note(mirror, epoch, began, call, None)
        return answer

    def _note(self, mirror: Mirror, epoch: int, began: float, call: Call[T], error: ProviderError | None) -> None:
        """What a call took is the institution's time: not that for which it stood in our own line."""
        took = max(self._clock.monotonic() - began - stood_in_line(), 0.0)
        weight = outcomes.weight_of(error, took, self._slow_after(mirror.circuit.org_code))
        reason = None if error is None else error.reason
        resting = self._resting_ms(error) if isinstance(error, ProviderResting) else None
        self._notices.notice(Noticed(mirror.circuit, epoch, weight, began, took, call.api_code, call.api_type, reason, call.user, resting))

    def _resting_ms(self, error: ProviderResting) -> float:
        """Until the end of the maintenance that it announced; 0: it did not say."""
        return 0.0 if error.retry_at is None else max((error.retry_at - self._clock.now()).total_seconds() * 1000, 0.0)


def _never() -> None:
    """What an open circuit is asked to call."""


class _Probe:
    """`transport.Guard` for one probe."""

    def __init__(self, guard: CircuitGuard, mirror: Mirror, held: Callable[[], bool]) -> None:
        self._guard = guard
        self._mirror = mirror
        self._held = held
        self._turn = asyncio.Lock()

    async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        """Waits for its turn: a job's first lists are called all at once, and only the first of them is to meet a bank that may be ill."""
        if (org_code, call.scope) != (self._mirror.circuit.org_code, self._mirror.circuit.scope):
            return await self._guard.through(org_code, call, attempt)
        if self._mirror.standing is not CircuitState.HALF_OPEN:
            return await self._tried(call, attempt)
        async with self._turn:
            return await self._tried(call, attempt)

    async def _tried(self, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
        """Asks for the lease at the last moment: it may have run out while the call waited."""
        return await self._guard.tried(self._mirror, self._mirror.trial if self._held() else self._mirror.breaker, call, attempt)


@dataclass(frozen=True, kw_only=True)
class NodeCircuits:
    """A process's side of the fleet's circuits."""

    mirrors: Mirrors  # hears decisions
    noticing: Noticing  # reports
    guard: CircuitGuard  # of every client


class _Both:
    """Two who hear the same."""

    def __init__(self, first: Notices, second: Notices) -> None:
        self._first = first.notice
        self._second = second.notice

    def notice(self, noticed: Noticed) -> None:
        self._first(noticed)
        self._second(noticed)


def heard_by(first: Notices, second: Notices | None) -> Notices:
    """Who tells both; None: there is no second."""
    return first if second is None else _Both(first, second)


@asynccontextmanager
async def node_circuits(
    directory: Callable[[], Directory],
    settings: Settings,
    clock: Clock,
    *,
    reports: Reports,
    mirrors: Mirrors | None = None,
    beside: Notices | None = None,
) -> AsyncIterator[NodeCircuits]:
    """Reports while the block runs. Give `guard` to `http_clients`, and decisions to `mirrors`.

    `mirrors`: those of this process; None: new ones. `beside`: who else hears how calls end; None: nobody.
    """
    mirrors = mirrors or Mirrors(clock)
    async with Noticing(reports, clock) as noticing:
        guard = CircuitGuard(mirrors=mirrors, notices=heard_by(noticing, beside), clock=clock, slow_after=slow_after(directory, settings))
        yield NodeCircuits(mirrors=mirrors, noticing=noticing, guard=guard)


def slow_after(directory: Callable[[], Directory], settings: Settings) -> Callable[[str], float]:
    """Seconds after which an answer of an institution counts as slow: its entry says, or the setting."""
    usual = settings.slow_after

    def seconds(org_code: str) -> float:
        current = directory()
        entry = current.provider(org_code) or (current.ca if current.ca.org_code == org_code else None)
        return usual if entry is None or entry.slow_after is None else entry.slow_after

    return seconds
