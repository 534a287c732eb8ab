"""The supervisor itself: it knows everybody by pid, notices whoever leaves unasked, and leaves nobody behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.faults.supervisor import Fleet, Topology, a_fleet, with_children

pytestmark = pytest.mark.system


async def test_at_the_end_nobody_is_left_and_no_folder() -> None:
    async with a_fleet(Topology(apis=0, workers=0, coordinators=0)) as fleet:
        pids, folder = fleet.pids(), fleet.folder
        fleet.valkey.freeze()
        fleet.sandbox.freeze()
        assert len(pids) > 3
    assert set().union(*(with_children(pid) for pid in pids)) == set()
    assert not folder.exists()


async def test_whoever_ends_unasked_is_a_deserter_and_whoever_was_told_to_is_none(fleet: Fleet) -> None:
    one, other = fleet.workers[:2]
    before = len(fleet.deserters)
    await other.kill()
    os.kill(one.pid, signal.SIGKILL)
    assert await one.ended() == -signal.SIGKILL
    assert fleet.deserters[before:] == [(one.name, -signal.SIGKILL)]
    assert time.time() - one.ended_at < 5
    await asyncio.gather(one.start(), other.start())
    assert one.alive
    assert "worker.started" in one.said
