"""How one circuit stands: what is stored of it, and what nodes are told. RULE: values only.

In: a standing and a moment. Out: the `Decision` of that moment, with what is left of each duration. Moments are ms of the leaders' wall
clock; decisions have durations, since the clocks of a fleet disagree.
"""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from backend.coordinator.options import Options
from backend.providers.circuits import Circuit, CircuitState, Decision, Mode


class Reason(StrEnum):
    """Why a circuit stands as it does. With a forced mode the operator's own words stand instead."""

    UNTRIED = "untried"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    IN_A_ROW = "failures_in_a_row"
    MAINTENANCE = "maintenance"
    PROBING = "probing"
    PROBE_FAILED = "probe_failed"
    PROBE_SLOW = "probe_slow"
    PROBE_SILENT = "probe_silent"  # half-open for too long
    PROBE_LOST = "probe_lost"  # its lease ran out
    PROBE_RELEASED = "probe_released"
    RECOVERED = "recovered"
    MODE_ENDED = "forced_mode_ended"
    REMEMBERED = "remembered"  # by a node: the store has lost what opened it
    METRICS_ONLY = "metrics_only"


class Probe(Struct, frozen=True, kw_only=True):
    """The one probe in the fleet, by lease."""

    name: str  # the node
    fence: int  # the epoch of the decision that admitted it; its calls carry this one or a larger
    until_ms: float
    answered: int = 0
    slow: int = 0
    failures: int = 0


class Standing(Struct, frozen=True, kw_only=True):
    """One circuit, as it is stored."""

    circuit: Circuit
    state: CircuitState = CircuitState.CLOSED
    mode: Mode = Mode.AUTO
    reason: str = Reason.UNTRIED
    epoch: int = 0
    counts_from: int = 0  # the epoch of the last closing: calls that began under an older one say nothing
    since_ms: float = 0.0  # of the state
    opened: int = 0  # how often in a row, since it closed
    lost: int = 0  # probes in a row of which nothing was learnt
    probe_at_ms: float | None = None  # OPEN: when a probe may be made. None: not open, or nobody will by itself
    probe: Probe | None = None  # HALF_OPEN only
    held_ms: float = 0.0  # until when a node may believe that it has the probe, whatever became of the circuit meanwhile
    probed_by: str | None = None  # whose probe came to nothing last. None: nobody's since it closed
    believed_ms: float | None = None  # when nodes that heard nothing more stop to believe. None: never
    doubted_ms: float | None = None  # since when there is reason to open, and too few nodes that say so. None: there is not


def decision_of(standing: Standing, now: float, options: Options) -> Decision:
    """What nodes are told of a circuit at `now`: what is left of each duration."""
    retry_at = standing.probe.until_ms if standing.probe is not None else _probe_due_ms(standing)
    ramps = standing.state is CircuitState.CLOSED and standing.mode is Mode.AUTO and standing.reason == Reason.RECOVERED
    return Decision(
        circuit=standing.circuit,
        state=standing.state,
        epoch=standing.epoch,
        reason=standing.reason,
        mode=standing.mode,
        retry_in_ms=_left(retry_at, now),
        expires_in_ms=_left(standing.believed_ms, now),
        ramp_ms=_left(standing.since_ms + options.ramp_ms, now) or 0 if ramps else 0,
    )


def probe_is_due(standing: Standing, now: float) -> bool:
    """Whether somebody should ask for the probe."""
    due = _probe_due_ms(standing)
    return due is not None and now >= due


def _probe_due_ms(standing: Standing) -> float | None:
    """Not while who probed last may believe to be at it. None: nobody probes by itself."""
    return None if standing.probe_at_ms is None else max(standing.probe_at_ms, standing.held_ms)


def restored(standing: Standing, now: float, options: Options) -> Standing:
    """A stored standing in the hands of a new leader, whose clock may be behind: no wait is longer than it could be from now on."""
    longest = options.longest_maintenance_ms if standing.reason == Reason.MAINTENANCE else options.longest_wait_ms
    stands = max(longest, options.longest_half_open_ms) + options.expires_ms
    probe = standing.probe
    return replace(
        standing,
        since_ms=min(standing.since_ms, now),
        probe_at_ms=_at_most(standing.probe_at_ms, now + longest),
        probe=replace(probe, until_ms=min(probe.until_ms, now + options.probe_lease_ms)) if probe is not None else None,
        held_ms=min(standing.held_ms, now + options.probe_lease_ms),
        believed_ms=_at_most(standing.believed_ms, now + stands),
        doubted_ms=None,
    )


def _left(moment: float | None, now: float) -> int | None:
    return None if moment is None else math.ceil(max(moment - now, 0.0))


def _at_most(moment: float | None, limit: float) -> float | None:
    return None if moment is None else min(moment, limit)
