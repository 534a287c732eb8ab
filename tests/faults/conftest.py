"""One fleet for all short scenarios: each finds it whole, does its harm, and leaves the repair to the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.faults.stage import Stage, a_stage
from tests.faults.supervisor import Fleet, Topology, a_fleet

LEASE = {"MOA_JOB_LEASE": "1.5"}  # seconds; a dead worker's jobs go on after that


@pytest.fixture(scope="session")
async def fleet() -> AsyncIterator[Fleet]:
    """Two APIs, two workers, a coordinator, the sandbox."""
    async with a_fleet(Topology(apis=2, workers=2, settings=LEASE)) as running:
        yield running


@pytest.fixture
async def stage(fleet: Fleet) -> AsyncIterator[Stage]:
    async with a_stage(fleet) as made:
        yield made
