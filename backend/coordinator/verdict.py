"""What changes a circuit: `verdict(standing, what arrived, now, draw, options)`. RULE: never a clock, a draw, a store.

Out: the new standing and, if anything changed for the nodes, a `Decision` with a larger epoch. Moments are ms of the leaders' wall clock.
What a shell does once it leads (`hearing.py` keeps standings and samples together, so these are all its calls):

    hearing = Hearing(options, stored_standings, now=now)                    # at the beginning of a reign
    verdicts = hearing.heard(report, at, draw)                               # each report; `at`: when the stream took it
    verdicts = hearing.passed(now, draw)                                     # a few times a second
    given = hearing.tell(circuit, ProbeAsked(node), now, draw())             # a node wants to probe; `admitted(given, node)`: it may
    given = hearing.tell(circuit, ModeSet(mode, reason), now, draw())        # an operator's word
    decision = decision_of(hearing.standing(circuit), now, options)          # for a node that reads the whole state

Each verdict is stored first, fenced by the leader's token, that of `tell` also if it has no decision; then its decision is published and
the asker answered. Refused: another leads, and this memory is thrown away. The probing node asks under the name that it reports by, and
again at a third of its lease, which it counts from when it *asked*; it stops when that has run out. Its calls count by its reports;
cancelled, it says `ProbeReleased`.

A success can be the call that trips: it may complete the minimum. A result of an older epoch never decides, results in forced modes are
dropped, a cancelled call is neither. Whatever opened by itself is said again before nodes stop to believe it.

Who takes over has the standings and an empty sample. It changes nothing that stands (`restored`), so it closes nothing; and it opens
nothing until it has listened for `warm_up_ms`. For failures are flushed at once and answers with the next batch, and of a backlog the first
words are those of the loudest node: what is heard first is the worse half. In two seconds each node has flushed twenty times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backend.coordinator.arrivals import (
    Arrived,
    EpochSeen,
    Heard,
    MaintenanceTold,
    ModeSet,
    ProbeAnswered,
    ProbeAsked,
    ProbeReleased,
    TimePassed,
)
from backend.coordinator.options import Options
from backend.coordinator.sample import Evidence
from backend.coordinator.standing import Probe, Reason, Standing, decision_of, probe_is_due
from backend.providers.circuits import CircuitState, Decision, Mode
from backend.providers.outcomes import Weight


class Verdict(Struct, frozen=True):
    """What to store, and what to tell. `decision` None: nodes need not know."""

    standing: Standing
    decision: Decision | None


class _At(Struct, frozen=True):
    """The moment of a verdict, and what it is decided by."""

    now: float
    draw: float
    options: Options


def verdict(standing: Standing, arrived: Arrived, now: float, draw: float, options: Options) -> Verdict:
    """Judges what arrived at `now`. `draw`: a random number in [0, 1), for the jitter of a wait. Time passes first, whatever arrives."""
    at = _At(now, draw, options)
    after = standing
    if standing.mode is Mode.AUTO:
        after = _TABLE[standing.state, TimePassed](standing, TimePassed(), at)
    if after.mode is Mode.AUTO or isinstance(arrived, ModeSet | EpochSeen):
        after = _TABLE[after.state, type(arrived)](after, arrived, at)
    return Verdict(after, decision_of(after, now, options) if after.epoch > standing.epoch else None)


def admitted(given: Verdict, name: str) -> bool:
    """Whether `name` holds the probe after this verdict."""
    return given.standing.probe is not None and given.standing.probe.name == name


# --- closed -----------------------------------------------------------------------------------------------------------------------------


def _judged(standing: Standing, heard: Heard, at: _At) -> Standing:
    evidence, options = heard.evidence, at.options
    reason, witnesses = _charge(evidence, options)
    if reason is None or not options.acts or evidence.listened_ms < options.warm_up_ms:
        return replace(standing, doubted_ms=None) if standing.doubted_ms is not None else standing
    if len(witnesses) >= max(1, min(options.quorum, evidence.alive)):
        return _opened(standing, reason, at)
    return _doubted(standing, reason, contradicted=bool(evidence.well_at - witnesses), at=at)


def _charge(evidence: Evidence, options: Options) -> tuple[Reason | None, frozenset[str]]:
    """Why it should open, and by which nodes' word. A rate that is unknown is no reason; then failures in a row may be one."""
    if evidence.failure_rate is None or evidence.slow_rate is None:
        in_a_row = options.in_a_row and evidence.in_a_row >= options.in_a_row
        return (Reason.IN_A_ROW, evidence.in_a_row_at) if in_a_row else (None, frozenset())
    if evidence.failure_rate >= options.failure_rate:
        return Reason.FAILURE_RATE, evidence.failed_at
    if evidence.slow_rate >= options.slow_rate:
        return Reason.SLOW_RATE, evidence.slow_at
    return None, frozenset()


def _doubted(standing: Standing, reason: Reason, *, contradicted: bool, at: _At) -> Standing:
    """Too few say so. If nobody else has a good answer for long, they are right: who else calls would have met it."""
    patience = at.options.alone_after_ms
    if patience is None or contradicted:
        return replace(standing, doubted_ms=None) if standing.doubted_ms is not None else standing
    since = at.now if standing.doubted_ms is None else standing.doubted_ms
    return _opened(standing, reason, at) if at.now - since >= patience else replace(standing, doubted_ms=since)


def _remembered(standing: Standing, asked: ProbeAsked, at: _At) -> Standing:
    """Closed, as far as the store knows, which has lost the decision that opened it to a node: a probe is to look, not everybody.

    Whoever probed in the store's former life may still be at it, so nobody is admitted before that lease is over.
    """
    if asked.epoch <= standing.epoch or not at.options.acts:
        return standing
    until = at.now + at.options.probe_lease_ms
    known = replace(standing, epoch=asked.epoch, opened=1, held_ms=until)
    return _told(_in_state(known, CircuitState.OPEN, Reason.REMEMBERED, at, probe_at_ms=until), at)


# --- open -------------------------------------------------------------------------------------------------------------------------------


def _waits(standing: Standing, _arrived: Arrived, at: _At) -> Standing:
    """As time passes: ends under metrics only, and is said again before nodes stop to believe it."""
    if not at.options.acts:
        return _closed(standing, Reason.METRICS_ONLY, at)
    believed = standing.believed_ms
    return _told(standing, at) if believed is not None and at.now >= believed - at.options.expires_ms / 2 else standing


def _probed(standing: Standing, asked: ProbeAsked, at: _At) -> Standing:
    if not probe_is_due(standing, at.now) or not (at.options.automatic or asked.wanted):
        return standing
    if asked.name == standing.probed_by and not probe_is_due(standing, at.now - at.options.others_first_ms):
        return standing
    probe = Probe(name=asked.name, fence=standing.epoch + 1, until_ms=at.now + at.options.probe_lease_ms)
    half_open = _in_state(standing, CircuitState.HALF_OPEN, Reason.PROBING, at, probe=probe)
    return _told(replace(half_open, held_ms=probe.until_ms), at)


# --- half-open --------------------------------------------------------------------------------------------------------------------------


def _probe_runs(standing: Standing, _arrived: Arrived, at: _At) -> Standing:
    """As time passes: a silent lease frees the circuit for another probe, a round without end is a failed one."""
    if not at.options.acts:
        return _closed(standing, Reason.METRICS_ONLY, at)
    if at.now - standing.since_ms >= at.options.longest_half_open_ms:
        return _opened(standing, Reason.PROBE_SILENT, at)
    if standing.probe is None or at.now >= standing.probe.until_ms:
        return _freed(standing, Reason.PROBE_LOST, at)
    return standing


def _probe_kept(standing: Standing, asked: ProbeAsked, at: _At) -> Standing:
    probe = standing.probe
    if probe is None or probe.name != asked.name:
        return standing  # never two
    until = at.now + at.options.probe_lease_ms
    return replace(standing, probe=replace(probe, until_ms=until), held_ms=until)


def _probe_answered(standing: Standing, answered: ProbeAnswered, at: _At) -> Standing:
    """Opens as soon as the full round would, whatever is still to come; closes only when the round is full.

    An institution that says "not now" (a quota, outside of its window) is up, and wants no second call: that fills the round.
    """
    probe, options = standing.probe, at.options
    if probe is None or probe.fence != answered.fence:
        return standing
    if answered.weight is Weight.IGNORED:
        return _closed(standing, Reason.RECOVERED, at) if answered.lives else standing
    probe = replace(
        probe,
        answered=probe.answered + 1,
        slow=probe.slow + (answered.weight is Weight.SLOW),
        failures=probe.failures + (answered.weight is Weight.FAILURE),
    )
    if 100 * probe.failures >= options.failure_rate * options.round_of_calls:
        return _opened(standing, Reason.PROBE_FAILED, at)
    if 100 * probe.slow >= options.slow_rate * options.round_of_calls:
        return _opened(standing, Reason.PROBE_SLOW, at)
    if probe.answered >= options.round_of_calls:
        return _closed(standing, Reason.RECOVERED, at)
    return replace(standing, probe=probe)


def _probe_released(standing: Standing, released: ProbeReleased, at: _At) -> Standing:
    if standing.probe is None or standing.probe.fence != released.fence:
        return standing
    return _freed(replace(standing, held_ms=at.now), Reason.PROBE_RELEASED, at)


# --- in several -------------------------------------------------------------------------------------------------------------------------


def _rests(standing: Standing, told: MaintenanceTold, at: _At) -> Standing:
    """Maintenance is no failure: it does not make the next wait longer."""
    began = standing.probe.fence if standing.probe is not None else standing.counts_from
    if told.epoch < began or not at.options.acts:
        return standing
    wait = min(told.for_ms if told.for_ms > 0 else at.options.maintenance_ms, at.options.longest_maintenance_ms)
    resting = _in_state(standing, CircuitState.OPEN, Reason.MAINTENANCE, at, probe_at_ms=at.now + wait)
    return _told(replace(resting, lost=0), at)


def _mode_set(standing: Standing, said: ModeSet, at: _At) -> Standing:
    if (said.mode, said.reason) == (standing.mode, standing.reason) or (said.mode is standing.mode is Mode.AUTO):
        return standing
    unforced = replace(standing, mode=said.mode, opened=0, lost=0, probed_by=None, believed_ms=None)
    match said.mode:
        case Mode.FORCED_OPEN:
            return _told(_in_state(unforced, CircuitState.OPEN, said.reason, at), at)
        case Mode.FORCED_CLOSED:
            return _closed(unforced, said.reason, at)
        case Mode.AUTO if standing.mode is Mode.FORCED_OPEN:  # it may still be ill: a probe looks at once
            return _told(_in_state(unforced, CircuitState.OPEN, Reason.MODE_ENDED, at, probe_at_ms=at.now), at)
        case Mode.AUTO:
            return _closed(unforced, Reason.MODE_ENDED, at)


def _overtaken(standing: Standing, seen: EpochSeen, at: _At) -> Standing:
    """Nodes would not listen to a smaller epoch: what stands is said again with a larger one."""
    return _told(replace(standing, epoch=seen.epoch), at) if seen.epoch > standing.epoch else standing


def _stays(standing: Standing, _arrived: Arrived, _at: _At) -> Standing:
    return standing


# The closed table: every state with everything that can arrive, while no mode is forced.
_ALWAYS: dict[type[Any], Callable[..., Standing]] = {ModeSet: _mode_set, EpochSeen: _overtaken}
_BY_STATE: dict[CircuitState, dict[type[Any], Callable[..., Standing]]] = {
    CircuitState.CLOSED: {
        Heard: _judged,
        TimePassed: _stays,
        ProbeAsked: _remembered,
        ProbeAnswered: _stays,
        ProbeReleased: _stays,
        MaintenanceTold: _rests,
    },
    CircuitState.OPEN: {
        Heard: _stays,  # late
        TimePassed: _waits,
        ProbeAsked: _probed,
        ProbeAnswered: _stays,  # late: its lease ran out
        ProbeReleased: _stays,
        MaintenanceTold: _stays,  # late
    },
    CircuitState.HALF_OPEN: {
        Heard: _stays,  # late
        TimePassed: _probe_runs,
        ProbeAsked: _probe_kept,
        ProbeAnswered: _probe_answered,
        ProbeReleased: _probe_released,
        MaintenanceTold: _rests,
    },
}
_TABLE = {(state, kind): then for state, row in _BY_STATE.items() for kind, then in (row | _ALWAYS).items()}


# --- what becomes of it -----------------------------------------------------------------------------------------------------------------


def _opened(standing: Standing, reason: Reason, at: _At) -> Standing:
    """Open, or open once more: each time the wait grows."""
    opened = standing.opened + 1
    wait = at.options.wait(opened, at.draw)
    probed_by = standing.probe.name if standing.probe is not None else None
    then = _in_state(standing, CircuitState.OPEN, reason, at, probe_at_ms=at.now + wait)
    return _told(replace(then, opened=opened, lost=0, probed_by=probed_by), at)


def _freed(standing: Standing, reason: Reason, at: _At) -> Standing:
    """Open for the next probe, of whom nothing was learnt: at once, for its holder may have died; after several in a row the wait grows."""
    lost = standing.lost + 1
    wait = at.options.wait(standing.opened + lost - 1, at.draw) if lost > 1 else 0
    probed_by = standing.probe.name if standing.probe is not None else None
    then = _in_state(standing, CircuitState.OPEN, reason, at, probe_at_ms=at.now + wait)
    return _told(replace(then, lost=lost, probed_by=probed_by), at)


def _closed(standing: Standing, reason: str, at: _At) -> Standing:
    closed = _told(replace(_in_state(standing, CircuitState.CLOSED, reason, at), opened=0, lost=0, probed_by=None), at)
    return replace(closed, counts_from=closed.epoch)


def _in_state(
    standing: Standing, state: CircuitState, reason: str, at: _At, *, probe_at_ms: float | None = None, probe: Probe | None = None
) -> Standing:
    """Nothing of the old state stays but its past."""
    return replace(standing, state=state, reason=reason, since_ms=at.now, probe_at_ms=probe_at_ms, probe=probe, doubted_ms=None)


def _told(standing: Standing, at: _At) -> Standing:
    """As nodes hear it: the next epoch, and how long they believe it without another word."""
    half_open = standing.state is CircuitState.HALF_OPEN
    until = standing.since_ms + at.options.longest_half_open_ms if half_open else standing.probe_at_ms
    believed = None if until is None else max(until, at.now) + at.options.expires_ms
    return replace(standing, epoch=standing.epoch + 1, believed_ms=believed)
