"""A window of the batch in real time, with workers that are killed: even to the tenth of a second, and every link recorded once.

Real time is what is asked about, so these are long; and a machine that is busy with something else is seen in them at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.faults.minutes import Seen, a_window, batch_worker, bins, linked, within
from tests.faults.supervisor import Fleet, Topology, a_fleet

pytestmark = [pytest.mark.system, pytest.mark.long]

TELECOM = "G1MOATC001"
LINKS = int(os.environ.get("MOA_BATCH_LINKS") or 20_000)
MINUTES = 3
KILLS = (14.3, 76.8)  # seconds into the window: early in a minute, so that what was missed is a small part of what is left of it
SETTINGS = {"MOA_BATCH_AUTOMATIC": "false"}  # the commands are this test's


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with a_fleet(Topology(apis=0, workers=0, coordinators=1, settings=SETTINGS)) as running:
        yield running


async def test_a_window_is_even_and_every_link_is_recorded_once_though_workers_are_killed(fleet: Fleet) -> None:
    workers = [batch_worker(fleet, f"batch-{number}") for number in (1, 2)]
    for worker in workers:
        await worker.start()
    await linked(fleet, TELECOM, LINKS)
    seen = await a_window(fleet, TELECOM, minutes=MINUTES, kills=KILLS, workers=workers)
    assert sum(seen.states.values()) == LINKS
    assert {state for state, _ in seen.states} == {"recorded"}
    assert seen.kinds == {"scheduled"}
    assert seen.again <= seen.in_flight
    assert len(seen.kills) == len(KILLS)
    assert within(seen, 0.1, 0.30) >= 0.99, Counter(held for _, held, _ in bins(seen, 0.1))
    assert within(seen, 1.0, 0.05) >= 0.99, [each for each in bins(seen, 1.0) if abs(each[1] - each[2]) > 0.05 * each[2]]
    assert [each for each in bins(seen, 0.1) if each[1] > seen.per_100ms] == []
    assert fleet.tracebacks() == []


def test_bins_know_what_is_planned_behind_a_kill() -> None:
    even = tuple(at / 10 for at in range(600) if not 200 <= at < 220)
    late = (*even[:-20], *(22 + each * 1.8 + 0.05 for each in range(20)))  # what was missed in two seconds, spread over the rest
    seen = Seen(
        sizes=(600,),
        firsts=tuple(sorted(late)),
        kills=(20.0,),
        in_flight=0,
        again=0,
        kinds=frozenset(),
        calls=0,
        states=Counter(),
        per_100ms=2,
    )
    found = bins(seen, 1.0)
    assert [held for begins, held, _ in found if begins < 20] == [10] * 20
    assert {round(planned, 2) for begins, _, planned in found if begins < 20} == {10.0}
    assert min(begins for begins, _, _ in found if begins >= 20) == pytest.approx(23.1)
