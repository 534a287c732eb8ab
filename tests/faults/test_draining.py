"""SIGTERM under load: whoever is told to go ends with 0 in time, and what was in its hands is finished or handed over."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.stage import Stage

pytestmark = pytest.mark.system

DRAINED = 30.0  # seconds


async def test_an_api_and_a_worker_that_are_told_to_go_lose_nothing(stage: Stage) -> None:
    stage.arrive(14, every=0.2)
    await stage.until_accepted(5)
    leaving = [stage.fleet.apis[0], stage.fleet.workers[0]]
    with stage.history.disturbing("api stopped"):
        began = time.monotonic()
        assert await asyncio.gather(*(member.stop() for member in leaving)) == [0, 0]
        assert time.monotonic() - began < DRAINED
        await asyncio.gather(*(member.start() for member in leaving))
    await stage.is_well()


@pytest.mark.long
async def test_everybody_told_to_go_and_started_again_goes_on(stage: Stage) -> None:
    fleet = stage.fleet
    stage.arrive(10, every=0.2)
    await stage.until_accepted(5)
    with stage.history.disturbing("api stopped"):
        everybody = [*fleet.apis, *fleet.workers, *fleet.coordinators]
        assert await asyncio.gather(*(member.stop() for member in everybody)) == [0] * len(everybody)
        await asyncio.gather(*(member.start() for member in everybody))
    await stage.is_well()
