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


class Circuit(Struct, frozen=True):
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


class CallEnded(Struct, frozen=True, array_like=True):
    """How one call ended, as far as a circuit cares."""

    circuit: Circuit
    epoch: int  # of the decision under which it began
    weight: Weight
    took_ms: float
    ago_ms: float = 0.0  # before its report was made


class Report(Struct, frozen=True, kw_only=True):
    """What one node saw since its last report. (node, number) is counted once, however often it arrives."""

    node: str
    number: int  # grows by one per report of this node
    calls: tuple[CallEnded, ...]
    dropped: int = 0  # calls that the bounded buffer had no room for
