"""kill -9 where it hurts: of a worker at each step of its work, of all workers at once, of an API between its commit and its answer."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from backend.failpoints import Failpoint
from tests.faults.people import over
from tests.faults.stage import BANK, CARD, Stage
from tests.faults.supervisor import Member

pytestmark = pytest.mark.system

OF_THE_API = {Failpoint.ACCEPT_COMMITTED}
OF_A_WORKER = [place for place in Failpoint if place not in OF_THE_API]
KILLED = -signal.SIGKILL


async def doomed(stage: Stage, place: Failpoint, passage: int) -> Member:
    """One more worker, which will kill itself there."""
    member = stage.fleet.another_worker(f"doomed-{place}-{passage}")
    await member.spawn(doomed=True, MOA_FAILPOINTS=f"{place}=kill:{passage}")
    return member


async def everybody_dies(stage: Stage, members: list[Member], seconds: float) -> None:
    """People arrive until every doomed worker has reached its place."""
    deadline = time.monotonic() + seconds
    while any(member.alive for member in members):
        assert time.monotonic() < deadline, [member.name for member in members if member.alive]
        stage.arrive(1)
        await asyncio.sleep(0.4)
    assert [await member.ended() for member in members] == [KILLED] * len(members)
    for member in members:
        stage.history.disturbed("worker killed", member.ended_at)


async def die_at(stage: Stage, places: list[tuple[Failpoint, int]], seconds: float) -> None:
    """Only doomed workers are at work until each is dead; then the others wake up and find what they left."""
    others = [worker for worker in stage.fleet.workers if worker.alive]
    for worker in others:
        worker.freeze()
    try:
        members = await asyncio.gather(*(doomed(stage, place, passage) for place, passage in places))
        await asyncio.gather(*(member.until_ready() for member in members))
        await everybody_dies(stage, members, seconds)
    finally:
        for worker in others:
            worker.thaw()
        stage.fleet.dismiss("doomed-")


async def test_workers_killed_at_every_step_of_their_work_lose_nothing(stage: Stage) -> None:
    await die_at(stage, [(place, 1 + number % 2) for number, place in enumerate(OF_A_WORKER)], 40)
    await stage.is_well()


@pytest.mark.long
@pytest.mark.parametrize("passage", [1, 2, 5])
@pytest.mark.parametrize("place", OF_A_WORKER)
async def test_a_worker_killed_at_one_step_loses_nothing(stage: Stage, place: Failpoint, passage: int) -> None:
    await die_at(stage, [(place, passage)], 30)
    await stage.is_well()


@pytest.mark.parametrize("away", [3, pytest.param(30, marks=pytest.mark.long)])
async def test_all_workers_killed_and_back_later_find_everything(stage: Stage, away: float) -> None:
    stage.arrive(int(4 + away * 2), every=0.4)
    await stage.until_accepted(2)
    with stage.history.disturbing("workers killed"):
        await asyncio.gather(*(worker.kill() for worker in stage.fleet.workers))
        await asyncio.sleep(away)  # the outage itself
        await asyncio.gather(*(worker.start() for worker in stage.fleet.workers))
    await stage.is_well()


async def test_an_api_killed_between_commit_and_answer_has_begun_one_registration(stage: Stage) -> None:
    first, second = stage.fleet.apis
    await first.kill()
    await first.spawn(doomed=True, MOA_FAILPOINTS=f"{Failpoint.ACCEPT_COMMITTED}=kill")
    await first.until_ready()
    person = stage.person(urls=stage.fleet.api_urls)
    person.turn_to(stage.fleet.api_urls[0])
    with stage.history.disturbing("api killed"):
        registration = await person.register(BANK, CARD)
        assert await first.ended() == KILLED
        await first.start()
    asked = [one for one in stage.history.asked if one.user == person.sub]
    assert [one.status for one in asked] == [0, 202]
    assert second.alive
    await asyncio.gather(*(person.follow(transport, registration, over) for transport in ("websocket", "sse", "poll")))
    assert len((await stage.is_well()).rows.registrations) == 1


@pytest.mark.long
async def test_an_api_killed_under_load_is_replaced_by_the_other(stage: Stage) -> None:
    stage.arrive(8, every=0.15)
    await stage.until_accepted(2)
    with stage.history.disturbing("api killed"):
        await stage.fleet.apis[0].kill()
        await asyncio.sleep(1)  # people go on at the other one
        await stage.fleet.apis[0].start()
    await stage.is_well()
