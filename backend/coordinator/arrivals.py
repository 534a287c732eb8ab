"""What can arrive about a circuit. RULE: values only; `verdict.py` has what each does in each state."""

from __future__ import annotations

from msgspec import Struct

from backend.coordinator.sample import Evidence
from backend.providers.circuits import Mode
from backend.providers.outcomes import Weight


class Heard(Struct, frozen=True):
    """Calls were reported, and this is what is known now."""

    evidence: Evidence


class TimePassed(Struct, frozen=True):
    """Nothing happened."""


class ProbeAsked(Struct, frozen=True):
    """A node asks for the probe, or for more time with it."""

    name: str
    wanted: bool = True  # whether somebody waits for this institution
    epoch: int = 0  # of the decision by which it is open to that node


class ProbeAnswered(Struct, frozen=True):
    """One of the probe's calls ended. An ignored one says nothing, and its place in the round is free again, unless it `lives`."""

    fence: int
    weight: Weight
    lives: bool = False  # of an ignored one: whether the institution itself said it


class ProbeReleased(Struct, frozen=True):
    """The probe gives its permit back without a result."""

    fence: int


class MaintenanceTold(Struct, frozen=True):
    """The institution says that it is in planned maintenance (50008)."""

    epoch: int  # under which the call began
    for_ms: float  # 0: it did not say


class ModeSet(Struct, frozen=True):
    """An operator's word."""

    mode: Mode
    reason: str


class EpochSeen(Struct, frozen=True):
    """A node has a larger epoch than is known here: a store forgot something."""

    epoch: int


Arrived = Heard | TimePassed | ProbeAsked | ProbeAnswered | ProbeReleased | MaintenanceTold | ModeSet | EpochSeen
