"""The one probe in the fleet (the talk's *Master*): whether an institution is well again, asked by one node, by lease.

In: decisions, as this node hears them. When an open circuit's wait is over, the node asks the leading coordinator for the probe; who is
admitted calls `GET /{industry}/apis` first, then makes one waiting job's real call. How the calls end is told by the guard's reports, and
judged by the coordinator. Never here: a call without the lease, two probes of one node at one circuit, a judgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from backend.clock import Clock
from backend.coordinator.options import Options
from backend.errors import EngineUnavailable, ProviderError
from backend.providers.calling.transport import Guard
from backend.providers.circuits import Circuit, CircuitState, Decision, Mode

ASKED_AGAIN = 0.5  # seconds, with jitter, until a node asks once more for a probe that nobody was given
SPREAD = 0.2  # seconds over which the nodes of a fleet come to ask
JUDGED_IN = 0.3  # seconds in which calls are reported, judged, and the decision is here

log = structlog.get_logger()


class ProbeAsking(Protocol):
    """The leading coordinator's word."""

    async def ask(self, circuit: Circuit, *, wanted: bool = True, epoch: int = 0) -> Decision | None:
        """Asks for the probe, or for more time with it. The half-open decision that grants it; None: it is not ours.

        `wanted`: whether somebody waits for this institution. `epoch`: of the decision by which it is open here.
        Raises `EngineUnavailable`.
        """
        ...

    async def release(self, circuit: Circuit, fence: int) -> None:
        """Gives it back without a result. Raises `EngineUnavailable`."""
        ...


class Probed(Protocol):
    """What a probe calls. Calls raise `ProviderError`; the guard has noted by then how the call ended."""

    async def is_awaited(self, circuit: Circuit) -> bool:
        """Whether anybody waits for this institution. Raises `EngineUnavailable`."""
        ...

    async def ask_apis(self, circuit: Circuit, guard: Guard) -> None:
        """Whether it answers at all; no person's data are at stake."""
        ...

    async def make_waiting_call(self, circuit: Circuit, guard: Guard) -> bool:
        """Brings one job that waits for this institution to its end. False: none does."""
        ...


class ProbeGuards(Protocol):
    """Where the guard of a probe comes from (`CircuitGuard`)."""

    def as_probe(self, decision: Decision, *, held: Callable[[], bool]) -> Guard: ...


class _Lease:
    """The hold on a probe, counted from before it was asked for. `seconds`: what the coordinator grants."""

    def __init__(self, clock: Clock, seconds: float, asked: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self.renewed(asked)

    def renewed(self, asked: float) -> None:
        self._until = asked + self._seconds

    def holds(self) -> bool:
        return self._clock.monotonic() < self._until


class _Due:
    """When this node is to ask for the probe of one circuit, on the monotonic clock. None: not before somebody says so."""

    def __init__(self, clock: Clock) -> None:
        self.epoch = 0  # of the decision by which the circuit is open
        self.after_others = False  # whether the last probe was ours, and others are to try first
        self._clock = clock
        self._at: float | None = None
        self._changed = asyncio.Event()

    def set(self, wait: float | None) -> None:
        self._at = None if wait is None else self._clock.monotonic() + wait
        self._changed.set()

    async def come(self) -> None:
        """Returns when it is over, whatever was said meanwhile."""
        while self._at is None or self._at > self._clock.monotonic():
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._at is None else self._at - self._clock.monotonic()):
                    await self._changed.wait()


class Probing:
    """The probes of one node. Hears every decision; one task per circuit that is not closed."""

    def __init__(
        self,
        *,
        asking: ProbeAsking,
        probed: Probed,
        guards: ProbeGuards,
        state_of: Callable[[Circuit], CircuitState],
        clock: Clock,
        options: Options,
        draw: Callable[[], float],
    ) -> None:
        """`state_of`: as this node knows it now. `options`: the coordinator's. `draw`: random numbers in [0, 1)."""
        self._asking = asking
        self._probed = probed
        self._guards = guards
        self._state_of = state_of
        self._clock = clock
        self._lease = options.probe_lease_ms / 1000
        self._others_first = options.others_first_ms / 1000
        self._automatic = options.automatic
        self._draw = draw
        self._due: dict[Circuit, _Due] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def hear(self, decision: Decision) -> None:
        """An open circuit is asked for when its wait is over, until it is closed."""
        circuit = decision.circuit
        if decision.state is CircuitState.CLOSED:
            if circuit in self._due:  # a probe that is under way brings its job to the end
                self._due.pop(circuit).set(0.0)
        elif decision.state is CircuitState.OPEN:
            waits = decision.mode is Mode.AUTO and decision.retry_in_ms is not None
            due = self._watched(circuit)
            due.epoch = decision.epoch
            first = self._others_first if due.after_others else 0.0
            due.set((decision.retry_in_ms or 0) / 1000 + first + self._draw() * SPREAD if waits else None)
        elif circuit in self._due:
            self._due[circuit].after_others = False

    def _watched(self, circuit: Circuit) -> _Due:
        if circuit not in self._due:
            due = self._due[circuit] = _Due(self._clock)
            task = asyncio.create_task(self._watch(circuit, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._due[circuit]

    async def close(self) -> None:
        """Gives up what is under way; a probe that is held is given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, circuit: Circuit, due: _Due) -> None:
        """Asks again and again, since whoever was admitted may be killed. A fault of ours ends one asking, never the watch."""
        while self._due.get(circuit) is due:
            await due.come()
            try:
                if self._state_of(circuit) is CircuitState.OPEN:
                    await self._ask(circuit, due)
            except Exception as exc:
                _stumbled(circuit, exc)
            await asyncio.sleep(ASKED_AGAIN * (0.5 + self._draw()))

    async def _ask(self, circuit: Circuit, due: _Due) -> None:
        with suppress(EngineUnavailable):
            wanted = self._automatic or await self._probed.is_awaited(circuit)
            asked = self._clock.monotonic()
            granted = await self._asking.ask(circuit, wanted=wanted, epoch=due.epoch)
            if granted is not None:
                due.after_others = True
                await self._probe(granted, _Lease(self._clock, self._lease, asked))

    async def _probe(self, granted: Decision, lease: _Lease) -> None:
        circuit = granted.circuit
        log.info("probe.begun", org_code=circuit.org_code, scope=circuit.scope, epoch=granted.epoch)
        keeping = asyncio.create_task(self._keep(circuit, lease))
        try:
            await self._round(granted, lease)
        except ProviderError as error:
            log.info("probe.failed", org_code=circuit.org_code, scope=circuit.scope, reason=error.reason)
        except BaseException:
            # In a task of its own: before Python 3.11.3 no timeout works inside of a task that was cancelled (gh-102780).
            await asyncio.create_task(self._release(granted))
            raise
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _round(self, granted: Decision, lease: _Lease) -> None:
        """Calls until the coordinator has heard enough."""
        guard = self._guards.as_probe(granted, held=lease.holds)
        await self._probed.ask_apis(granted.circuit, guard)
        if not await self._waiting_call(granted.circuit, guard):
            await self._probed.ask_apis(granted.circuit, guard)
        while await self._still_half_open(granted.circuit) and lease.holds():
            await self._probed.ask_apis(granted.circuit, guard)

    async def _waiting_call(self, circuit: Circuit, guard: Guard) -> bool:
        """Whether one was made. A fault of ours in somebody's job says nothing of the institution, and they come first in each round."""
        try:
            return await self._probed.make_waiting_call(circuit, guard)
        except (ProviderError, EngineUnavailable):
            raise
        except Exception as exc:
            _stumbled(circuit, exc)
            return False

    async def _still_half_open(self, circuit: Circuit) -> bool:
        await asyncio.sleep(JUDGED_IN)
        return self._state_of(circuit) is CircuitState.HALF_OPEN

    async def _keep(self, circuit: Circuit, lease: _Lease) -> None:
        """Prolongs the lease while the round is made."""
        while True:
            await asyncio.sleep(self._lease / 3)
            asked = self._clock.monotonic()
            with suppress(EngineUnavailable):
                if await self._asking.ask(circuit) is not None:
                    lease.renewed(asked)

    async def _release(self, granted: Decision) -> None:
        with suppress(EngineUnavailable):
            await self._asking.release(granted.circuit, granted.epoch)


def _stumbled(circuit: Circuit, exc: Exception) -> None:
    """Without the words of the exception, which may repeat somebody's data."""
    log.error("probe.stumbled", org_code=circuit.org_code, scope=circuit.scope, error=type(exc).__name__)
