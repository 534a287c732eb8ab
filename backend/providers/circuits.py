"""What nodes and coordinators say to each other about circuits. RULE: values only; shells carry them, rules make and read them.

A circuit is one scope of one institution: (provider: read, token) or the CA. Nodes send `Report`s (what became of their calls), the
leading coordinator answers with `Decision`s. A node applies a decision only if its epoch is newer than what it has; a report carries the
epoch under which each call began, so that late results of an older epoch never decide.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from backend.providers.calls import Scope
from backend.providers.outcomes import Weight
from backend.providers.traffic import Rollup, Seen


class CircuitState(StrEnum):
    """The three states of the pattern, by the contract's words."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"  # nobody but the one probe in the fleet


class Mode(StrEnum):
    """Who decides."""

    AUTO = "auto"
    FORCED_OPEN = "forced_open"  # an operator, until they say otherwise
    FORCED_CLOSED = "forced_closed"


class Circuit(Struct, frozen=True, array_like=True):
    """Which circuit."""

    org_code: str
    scope: Scope


class Decision(Struct, frozen=True, kw_only=True):
    """How one circuit stands from now on. Times are durations: the clocks of a fleet disagree."""

    circuit: Circuit
    state: CircuitState
    epoch: int  # grows by at least one with each decision about this circuit
    reason: str  # a code, for operators
    mode: Mode = Mode.AUTO
    retry_in_ms: int | None = None  # until a probe may be made; None: nobody will try by itself
    expires_in_ms: int | None = None  # after which a node that heard nothing more no longer believes an OPEN; None: it stands
    ramp_ms: int = 0  # over which a node lets a growing share of calls through a circuit that has closed; 0: all at once


class Decisions(Struct, frozen=True):
    """Decisions of one life of the store: a change as it is published, or the whole state as it is read."""

    lineage: str  # names that life: made with the store's first entry and lost with the last. Epochs are compared within one only
    decisions: tuple[Decision, ...]


class CallEnded(Struct, frozen=True, array_like=True):
    """How one call ended, as far as a circuit cares."""

    circuit: Circuit
    epoch: int  # of the decision under which it began
    weight: Weight
    took_ms: float
    ago_ms: float = 0.0  # before its report was made
    resting_ms: float | None = None  # the provider said planned maintenance, for so long; 0: not until when. None: it said nothing of it
    reason: str | None = None  # of `outcomes.CATALOGUE`, or `http_` and three digits; None: it was answered


class Report(Struct, frozen=True, kw_only=True):
    """What one node saw since its last report. (node, number) is counted once, however often it arrives."""

    node: str
    number: int  # grows by one per report of this node
    calls: tuple[CallEnded, ...]
    dropped: int = 0  # calls that the bounded buffer had no room for
    rollups: tuple[Rollup, ...] = ()  # increments, of all calls since the last report: those of `calls`, those dropped, those cancelled
    seen: tuple[Seen, ...] = ()
    uncounted: int = 0  # calls, or users of calls, that the bounded roll-ups had no room for
    waited_ms: int = 0  # from its making to this sending of it; all else of one number is always the same
