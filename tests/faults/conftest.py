"""One fleet for all short scenarios: each finds it whole, does its harm, and leaves the repair to the next one."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator

import pytest

from tests.faults.stage import Stage, a_stage
from tests.faults.supervisor import Fleet, Topology, a_fleet

SEED = int(os.environ.get("MOA_FAULT_SEED") or random.SystemRandom().randrange(10**6))
LEASE = {"MOA_JOB_LEASE": "1.5"}  # seconds; a dead worker's jobs go on after that


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What it takes to have the same random faults again, also when the run went well."""
    if any("test_random_faults" in report.nodeid for reports in terminalreporter.stats.values() for report in reports if _ran(report)):
        terminalreporter.write_line(f"random faults: MOA_FAULT_SEED={SEED}")


def _ran(report: object) -> bool:
    return isinstance(report, pytest.TestReport) and report.when == "call"


@pytest.fixture(scope="session")
async def fleet() -> AsyncIterator[Fleet]:
    """Two APIs, two workers, a coordinator, the sandbox."""
    async with a_fleet(Topology(apis=2, workers=2, settings=LEASE)) as running:
        yield running


@pytest.fixture
async def stage(fleet: Fleet) -> AsyncIterator[Stage]:
    async with a_stage(fleet) as made:
        yield made
