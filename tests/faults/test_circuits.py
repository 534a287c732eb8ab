"""A provider goes down under load: one decision for the whole fleet, by the sandbox's call log and what each process wrote down.

In: workers, APIs and a coordinator as processes, whose circuits wait shortly. Out: when the threshold was met, when it was decided, when
each node had it, and what the provider was asked from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from backend.providers.circuits import CircuitState
from tests.faults.circuits import (
    BUSY,
    LONGEST_WAIT,
    SETTINGS,
    WAIT,
    a_guarded_stage,
    applied_at,
    decided,
    first_opened,
    is_probe,
    landed,
    most_at_once,
    opens,
    scope_of,
    stored,
    thresholds,
    until,
)
from tests.faults.stage import BANK, CARD, Stage
from tests.faults.supervisor import Fleet, Topology, a_fleet

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
async def guarded_fleet() -> AsyncIterator[Fleet]:
    async with a_fleet(Topology(apis=2, workers=2, coordinators=2, settings=SETTINGS)) as running:
        yield running


@pytest.fixture
async def stage(guarded_fleet: Fleet) -> AsyncIterator[Stage]:
    async with a_guarded_stage(guarded_fleet) as made:
        yield made


async def test_a_provider_that_goes_down_is_left_alone_by_all_within_a_moment(stage: Stage) -> None:
    fleet = stage.fleet
    stage.arrive(80, every=0.05)
    await stage.until_accepted(20)
    ill_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="http500")
    await until(lambda: opens(fleet, ill_from))
    await asyncio.sleep(3 * WAIT)  # probes look and fail meanwhile
    well_from = time.time()
    await fleet.steer(f"providers/{BANK}", mode="ok")
    await until(lambda: all(standing.state is CircuitState.CLOSED for standing in stored(fleet)), LONGEST_WAIT + 5)
    await until(lambda: "closed" in [each["state"] for each in decided(fleet, well_from)])  # it is stored before it is written down
    closed_at = max(each["at"] for each in decided(fleet, well_from) if each["state"] == "closed")

    # Open within a second of the threshold, and known to every process within a tenth of one.
    opened = first_opened(fleet, ill_from)
    told = [opened[circuit]["at"] - met for circuit, met in thresholds(fleet, ill_from).items() if circuit in opened]
    assert told
    assert max(told) < 1.0, f"threshold to decision: {told}"
    spread = sorted(applied["at"] - opened[circuit]["at"] for circuit in opened for applied in applied_at(fleet, opened[circuit]))
    assert len(spread) == 4 * len(opened), "every process heard it"
    assert spread[-1] < 0.1 + BUSY, f"decision to node: {spread}"

    # From then on nobody but the probe asks the provider, and one at a time.
    calls = [call for call in await fleet.calls(ill_from) if call["org_code"] == BANK]
    for circuit, decision in opened.items():
        late = [call for call in calls if scope_of(call) == circuit and decision["at"] + 0.1 + BUSY < call["at"] < well_from]
        assert not late, f"{circuit} was asked while it was open: {late}"
    probes = [call for call in calls if is_probe(call) and call["at"] < well_from]
    assert probes, "somebody looked"
    assert most_at_once(probes) <= len(opened), "one for each circuit"

    # Closed within its wait, and what it takes to ask for the probe and to make its calls; deferred work lands by itself.
    assert closed_at - well_from < LONGEST_WAIT + 2.0
    evidence = await landed(stage, 80)
    assert {row["status"] for row in evidence.rows.items if row["org_code"] == CARD} == {"completed"}
    ended = Counter(row["status"] for row in evidence.rows.items if row["org_code"] == BANK)
    assert set(ended) <= {"completed", "failed"}, ended
    print(  # figures for whoever looks
        f"threshold to decision {max(told) * 1000:.0f} ms, to the last node {spread[-1] * 1000:.1f} ms, "
        f"closed {closed_at - well_from:.2f} s after recovery, {len(probes)} probes, items {dict(ended)}"
    )
