"""What this process believes of every circuit: the fleet's decisions, mirrored into `pybreaker` at the call site.

In: `Decisions`, in any order and any number of times; time and chance as a clock and a draw. Out: breakers that admit or refuse without
asking anybody. `Mirror` is pybreaker's storage: it answers what was decided and ignores what pybreaker would write, so no result of a
call ever moves a circuit here. What pybreaker lacks stands in a gate, a listener: half-open admits nobody but the probe, and a circuit
that has closed admits a growing share. Nothing here does I/O or waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from random import random
from typing import Any, NamedTuple

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerListener,
    CircuitBreakerStorage,
)

from backend.clock import Clock
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions
from backend.providers.outcomes import Failure

FIRST_SHARE = 0.05  # of the calls, that a circuit lets through when it has just closed
SPREAD = 2.0  # seconds after a circuit may be tried, over which those come back who were refused
MOMENTS = 16  # of that time, each as likely
ORPHANED = 60.0  # seconds for which a decision is believed whose store was lost, and which had no end of its own

_NEVER = math.inf
_NAMES = {CircuitState.CLOSED: STATE_CLOSED, CircuitState.OPEN: STATE_OPEN, CircuitState.HALF_OPEN: STATE_HALF_OPEN}
_REFUSALS = {
    CircuitState.CLOSED: Failure.CIRCUIT_RAMP,
    CircuitState.OPEN: Failure.CIRCUIT_OPEN,
    CircuitState.HALF_OPEN: Failure.CIRCUIT_HALF_OPEN,
}
# pybreaker tries for itself once `reset_timeout` has passed since then. With None or a past moment, and writes that are ignored, it would
# ask itself again for ever; to the last moment that there is it could not add its timeout.
_OPENED_AT = datetime(9000, 1, 1, tzinfo=UTC)


class _Word(NamedTuple):
    """What the fleet said last, while this process decides for itself."""

    decision: Decision | None
    standing: CircuitState
    since: float
    expires: float
    ramp: float
    retry: float
    moments: tuple[datetime, ...]


class Mirror(CircuitBreakerStorage):
    """One circuit as it stands in this process."""

    def __init__(self, circuit: Circuit, clock: Clock, draw: Callable[[], float]) -> None:
        """`draw`: a number in [0, 1)."""
        super().__init__(f"{circuit.org_code}/{circuit.scope.value}")
        self.circuit = circuit
        self.epoch = 0  # of the decision that stands; 0: nothing was heard
        self.decision: Decision | None = None  # None: nothing was heard, or what was heard is over
        self.settled = True  # closed, without a ramp: nothing changes by itself
        self.refusal = Failure.CIRCUIT_RAMP  # why a call was refused just now
        self.refused = 0  # calls, by this process
        self._clock = clock
        self._draw = draw
        self._standing = CircuitState.CLOSED
        self._name_of_state = STATE_CLOSED
        self._since = 0.0  # monotonic, as are all below
        self._expires = _NEVER
        self._ramp = 0.0  # seconds; 0: none, or over
        self._retry = -_NEVER
        self._moments: tuple[datetime, ...] = ()  # to come back at, from the same moment on; none: the decision does not say
        self._fleets: _Word | None = None  # None: the fleet's word stands
        self._gate = _Gate(self)
        self.breaker = _breaker(self)
        self.trial = _breaker(self)  # for the one probe, which the fleet's lease has admitted: the same circuit without the gate

    # What pybreaker asks.

    @property
    def state(self) -> str:
        return self._name_of_state

    @state.setter
    def state(self, _state: str) -> None:
        """Decided elsewhere."""

    @property
    def counter(self) -> int:
        return 0

    @property
    def success_counter(self) -> int:
        return 0

    @property
    def opened_at(self) -> datetime:
        return _OPENED_AT

    @opened_at.setter
    def opened_at(self, _moment: datetime) -> None:
        """Decided elsewhere."""

    # What is decided.

    def apply(self, decision: Decision) -> bool:
        """Takes a newer decision; False: it was not newer, and prolongs nothing. Durations count from now on: who reads late says less."""
        if decision.epoch <= self.epoch:
            return False
        self.epoch = decision.epoch
        self._fleets = None
        self._take(decision)
        return True

    def stand_in(self, decision: Decision) -> None:
        """What this process decided for itself, while the fleet cannot be heard: it stands until `rejoin`, and takes no epoch."""
        if self._fleets is None:
            self._fleets = _Word(self.decision, self._standing, self._since, self._expires, self._ramp, self._retry, self._moments)
        self._take(decision)

    def rejoin(self) -> None:
        """The fleet's last word stands again, as far as its time has come."""
        if self._fleets is None:
            return
        word, self._fleets = self._fleets, None
        self.decision, self._expires, self._retry, self._moments = word.decision, word.expires, word.retry, word.moments
        self._stand(word.standing, word.since, word.ramp)
        self.settle(self._clock.monotonic())

    def _take(self, decision: Decision) -> None:
        now = self._clock.monotonic()
        self.decision = decision
        self._stand(decision.state, now, decision.ramp_ms / 1000)
        self._expires = _NEVER if decision.expires_in_ms is None else now + decision.expires_in_ms / 1000
        self._retry, self._moments = -_NEVER, ()
        if decision.retry_in_ms is not None:
            self._retry = now + decision.retry_in_ms / 1000
            first = self._clock.now() + timedelta(milliseconds=decision.retry_in_ms)
            self._moments = tuple(first + timedelta(seconds=SPREAD * part / MOMENTS) for part in range(MOMENTS))

    def orphan(self) -> None:
        """Its store was lost: whatever is decided next is newer, and if nothing is, this one ends."""
        self.epoch = 0
        if self._expires == _NEVER and self._standing is not CircuitState.CLOSED:
            self._expires = self._clock.monotonic() + ORPHANED

    # How it stands.

    @property
    def standing(self) -> CircuitState:
        """The state at this moment."""
        self.settle(self._clock.monotonic())
        return self._standing

    def settle(self, now: float) -> None:
        """Lets end what has ended: a decision of which nothing more was heard in its time, a ramp. For every call that is not `settled`."""
        if self._standing is not CircuitState.CLOSED and now >= self._expires:
            self._stand(CircuitState.CLOSED, self._expires, self._ramp)
            self.decision = None
        if self._standing is CircuitState.CLOSED and now >= self._since + self._ramp:
            self._ramp = 0.0
            self._settle(True)

    def admits(self) -> bool:
        """Whether the gate lets a call through that is no probe. Draws, while a ramp lasts."""
        if self._standing is CircuitState.CLOSED:
            return self._draw() < self._share(self._clock.monotonic())
        return False

    def comes_back(self, now: float) -> datetime | None:
        """When one that was refused just now should come again, spread out; None: the decision does not say."""
        if now < self._retry:
            return self._moments[int(self._draw() * MOMENTS)]
        if self._standing is CircuitState.OPEN and not self._moments:
            return None
        if self._standing is CircuitState.CLOSED:
            after = max(self._since + self._ramp - now, 0.0) * (1 - self._draw())
        else:  # the probe is under way, or should be
            after = SPREAD * (1 + self._draw())
        return self._clock.now() + timedelta(seconds=after)

    def _stand(self, state: CircuitState, since: float, ramp: float) -> None:
        self._standing = state
        self._name_of_state = _NAMES[state]
        self.refusal = _REFUSALS[state]
        self._since = since
        self._ramp = ramp
        self._settle(state is CircuitState.CLOSED and ramp <= 0)

    def _settle(self, settled: bool) -> None:
        """A gate through which all pass costs each of them a tenth of the guard's time, so it stands only where somebody may not."""
        if settled != self.settled:
            self.settled = settled
            (self.breaker.remove_listener if settled else self.breaker.add_listener)(self._gate)

    def _share(self, now: float) -> float:
        """Of the calls, that a ramp lets through."""
        return FIRST_SHARE + (1 - FIRST_SHARE) * (now - self._since) / self._ramp


class _Gate(CircuitBreakerListener):
    """Refuses what pybreaker would let through. Listeners may raise here, and nowhere else."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    def before_call(self, cb: CircuitBreaker, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG002  # pybreaker's
        if not self._mirror.admits():
            raise CircuitBreakerError("refused by the gate")


def _breaker(mirror: Mirror) -> CircuitBreaker:
    """`exclude` is empty since pybreaker counts what is excluded as success; tripping raises no error of its own."""
    return CircuitBreaker(exclude=[], state_storage=mirror, name=mirror.name, throw_new_error_on_trip=False)


class Mirrors:
    """All circuits of this process. Those of which nothing was heard are closed."""

    def __init__(self, clock: Clock, *, draw: Callable[[], float] = random) -> None:
        """`draw`: numbers in [0, 1), for the ramp and for the moments at which the refused come back."""
        self._clock = clock
        self._draw = draw
        self._lineage: str | None = None  # None: no whole state was read yet
        self._mirrors: dict[str, dict[Scope, Mirror]] = {}

    def of(self, org_code: str, scope: Scope) -> Mirror:
        """The mirror of one circuit."""
        try:
            return self._mirrors[org_code][scope]
        except KeyError:
            mirror = Mirror(Circuit(org_code, scope), self._clock, self._draw)
            return self._mirrors.setdefault(org_code, {}).setdefault(scope, mirror)

    def __iter__(self) -> Iterator[Mirror]:
        return (mirror for scopes in self._mirrors.values() for mirror in scopes.values())

    def state_of(self, circuit: Circuit) -> CircuitState:
        """How it stands at this moment."""
        return self.of(circuit.org_code, circuit.scope).standing

    def apply(self, told: Decisions) -> bool:
        """Takes what is newer, in whatever order it comes. False: it speaks of another life of the store; `whole` must be read."""
        if told.lineage != self._lineage:
            return False
        self._take(told)
        return True

    def whole(self, told: Decisions) -> None:
        """The whole state, after the start, after a reconnect, or to be sure. Only a store that was lost may move an epoch back.

        Then nothing that is open closes because the new store does not know of it: it stands until its own end, or `ORPHANED`.
        """
        if told.lineage != self._lineage:
            self._lineage = told.lineage
            for mirror in self:
                mirror.orphan()
        self._take(told)

    def rejoin(self) -> None:
        """The fleet can be heard again: nothing that this process decided for itself stands any more."""
        for mirror in self:
            mirror.rejoin()

    def _take(self, told: Decisions) -> None:
        for decision in told.decisions:
            self.of(decision.circuit.org_code, decision.circuit.scope).apply(decision)
