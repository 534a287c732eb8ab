"""One word for all circuits of a provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.clock import ManualClock
from backend.coordinator.availability import availability, status_in
from backend.coordinator.standing import Reason
from backend.events import Availability
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions
from backend.providers.mirror import Mirrors

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
AVAILABLE, RESTING, MAINTENANCE = Availability.AVAILABLE, Availability.RESTING, Availability.MAINTENANCE
WELL, ILL, PAUSED = (CLOSED, "recovered"), (OPEN, "failure_rate"), (OPEN, Reason.MAINTENANCE)
PROBED, FORCED = (HALF_OPEN, "probing"), (OPEN, "they asked us to")
BANK = "A1MOABK001"


@pytest.mark.parametrize(
    ("circuits", "before", "expected"),
    [
        ([], AVAILABLE, AVAILABLE),
        ([WELL, WELL], RESTING, AVAILABLE),
        ([WELL, ILL], AVAILABLE, RESTING),
        ([FORCED, FORCED], AVAILABLE, RESTING),
        ([PAUSED, WELL], AVAILABLE, MAINTENANCE),
        ([PAUSED, ILL], RESTING, MAINTENANCE),
        ([PROBED, WELL], MAINTENANCE, MAINTENANCE),
        ([PROBED, WELL], RESTING, RESTING),
        ([PROBED, WELL], AVAILABLE, RESTING),
        ([PROBED, ILL], MAINTENANCE, RESTING),
    ],
)
def test_the_worst_of_its_circuits_is_told(circuits, before, expected) -> None:
    assert availability(circuits, before) is expected


def test_a_process_tells_what_it_was_told_until_that_expires() -> None:
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    mirrors = Mirrors(clock)
    assert status_in(mirrors, BANK) is AVAILABLE
    circuit = Circuit(BANK, Scope.READ)
    mirrors.whole(
        Decisions(
            "life", (Decision(circuit=circuit, state=OPEN, epoch=1, reason=Reason.MAINTENANCE, retry_in_ms=5000, expires_in_ms=9000),)
        )
    )
    assert status_in(mirrors, BANK) is MAINTENANCE
    clock.move(timedelta(seconds=10))
    assert status_in(mirrors, BANK) is AVAILABLE
    assert status_in(mirrors, "B1MOACD001") is AVAILABLE
