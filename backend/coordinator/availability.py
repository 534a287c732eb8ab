"""Whether a provider takes calls, as people are told. RULE, but for asking the mirrors.

In: how the provider's circuits stand. Out: one word for all of them. The CA has no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from backend.coordinator.breakers import PROVIDER_SCOPES
from backend.coordinator.standing import Reason
from backend.events import Availability
from backend.providers.calling.mirror import Mirrors
from backend.providers.circuits import CircuitState


def availability(circuits: Iterable[tuple[CircuitState, str]], before: Availability = Availability.AVAILABLE) -> Availability:
    """From the state and the reason of each circuit. A probe that is under way changes nothing: what it ends with does."""
    found = [(state, reason) for state, reason in circuits if state is not CircuitState.CLOSED]
    if not found:
        return Availability.AVAILABLE
    if any(reason == Reason.MAINTENANCE for _, reason in found):
        return Availability.MAINTENANCE
    if before is not Availability.AVAILABLE and all(state is CircuitState.HALF_OPEN for state, _ in found):
        return before
    return Availability.RESTING


def status_in(mirrors: Mirrors, org_code: str) -> Availability:
    """What this process believes of a provider. It asks nobody."""
    mirrored = [mirrors.of(org_code, scope) for scope in PROVIDER_SCOPES]
    return availability([(mirror.standing, mirror.decision.reason if mirror.decision else "") for mirror in mirrored])
