"""Engines are killed, frozen, wiped, restarted while people register: honest 503s meanwhile, and everything ends by itself afterwards."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import redis

from tests.faults.checkers import calls_stay_within_need
from tests.faults.stage import Stage

pytestmark = pytest.mark.system


async def test_a_killed_valkey_costs_a_moment(stage: Stage) -> None:
    stage.arrive(12, every=0.2)
    await stage.until_accepted(4)
    with stage.history.disturbing("valkey killed"):
        await stage.fleet.valkey.kill()
        await asyncio.sleep(1)  # the outage itself
        await stage.fleet.valkey.start()
    await stage.is_well()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [6, 10, 15])
async def test_a_frozen_valkey_is_answered_for_and_survived(stage: Stage, seconds: float) -> None:
    stage.arrive(int(8 + seconds), every=0.6)
    await stage.until_accepted(3)
    with stage.history.disturbing("valkey frozen"):
        stage.fleet.valkey.freeze()
        await asyncio.sleep(seconds)  # the outage itself
        stage.fleet.valkey.thaw()
    await stage.is_well()


async def test_a_wiped_valkey_loses_no_work_and_says_that_history_is_gone(stage: Stage) -> None:
    stage.arrive(12, every=0.15)
    await stage.until_accepted(5)
    for _ in range(2):
        with stage.history.disturbing("valkey wiped"), redis.Redis.from_url(stage.fleet.valkey.engine.url) as client:
            client.flushall()
        await asyncio.sleep(0.5)  # some work between two wipes
    evidence = await stage.is_well()
    assert list(calls_stay_within_need(msgspec.structs.replace(evidence, disturbances=()))) == []  # who has a job goes on with it


@pytest.mark.long
async def test_a_restarted_postgres_costs_a_moment(stage: Stage) -> None:
    stage.arrive(12, every=0.2)
    await stage.until_accepted(4)
    with stage.history.disturbing("postgres restarted"):
        await stage.fleet.postgres.restart()
    await stage.is_well()


async def test_a_killed_postgres_costs_a_moment(stage: Stage) -> None:
    stage.arrive(12, every=0.2)
    await stage.until_accepted(4)
    with stage.history.disturbing("postgres killed"):
        await stage.fleet.postgres.kill()
        await stage.fleet.postgres.start()
    await stage.is_well()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [3, 12])
async def test_a_frozen_postgres_is_answered_for_and_survived(stage: Stage, seconds: float) -> None:
    stage.arrive(int(8 + seconds), every=0.6)
    await stage.until_accepted(3)
    with stage.history.disturbing("postgres frozen"):
        stage.fleet.postgres.freeze()
        await asyncio.sleep(seconds)  # the outage itself
        stage.fleet.postgres.thaw()
    await stage.is_well()
