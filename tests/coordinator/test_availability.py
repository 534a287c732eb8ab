"""One word for all circuits of a provider."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import jwt
import pytest
from starlette.applications import Starlette

from backend.clock import ManualClock
from backend.coordinator.availability import availability, status_in
from backend.coordinator.standing import Reason
from backend.events import Availability
from backend.identity import TokenVerifier
from backend.providers.calling.mirror import Mirrors
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision, Decisions
from backend.providers.directory import BUILT_IN, load_directory
from backend.registration.endpoints import RegistrationEndpoints

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
AVAILABLE, RESTING, MAINTENANCE = Availability.AVAILABLE, Availability.RESTING, Availability.MAINTENANCE
WELL, ILL, PAUSED = (CLOSED, "recovered"), (OPEN, "failure_rate"), (OPEN, Reason.MAINTENANCE)
PROBED, FORCED = (HALF_OPEN, "probing"), (OPEN, "they asked us to")
BANK = "A1MOABK001"
SECRET = "a secret for tests that is long enough"


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


async def test_the_list_of_providers_tells_it() -> None:
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    mirrors = Mirrors(clock)
    nothing: Any = None  # of what else is behind these endpoints
    endpoints = RegistrationEndpoints(
        verifier=TokenVerifier(secret=SECRET, jwks_url=None, clock=clock, budget=None),
        accepting=nothing,
        handling=nothing,
        database=nothing,
        directory=lambda: load_directory(BUILT_IN),
        status_of=partial(status_in, mirrors),
        position=nothing,
        max_body=1,
    )
    transport = httpx.ASGITransport(Starlette(routes=endpoints.routes()))
    token = jwt.encode({"sub": "anna", "scope": "user", "exp": clock.now() + timedelta(hours=1)}, SECRET, algorithm="HS256")
    mirrors.whole(Decisions("life", (Decision(circuit=Circuit(BANK, Scope.TOKEN), state=OPEN, epoch=1, reason="failure_rate"),)))
    async with httpx.AsyncClient(transport=transport, base_url="http://moa", headers={"Authorization": f"Bearer {token}"}) as http:
        rows = (await http.get("/v1/providers")).json()["providers"]
    assert {row["org_code"]: row["status"] for row in rows if row["status"] != "available"} == {BANK: "resting"}
    assert len(rows) > 20
