"""kill -9 where it hurts: of a worker at each step of its work, of all workers at once, of an API between its commit and its answer."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import aclosing

import pytest

from backend.failpoints import Failpoint
from tests.faults.checkers import TRIES
from tests.faults.history import JSON
from tests.faults.people import TRANSPORTS, Person, over
from tests.faults.stage import BANK, CARD, Stage, rows_of
from tests.faults.supervisor import Member

pytestmark = pytest.mark.system

OF_THE_API = {Failpoint.ACCEPT_COMMITTED}
OF_A_WORKER = [place for place in Failpoint if place not in OF_THE_API]
KILLED = -signal.SIGKILL
LATE = 3.0  # seconds from a worker's death until what it left in the outbox is heard: a second there, a second to the next sweep


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


async def until_the_end(person: Person, transport: str, registration: JSON) -> float:
    """When it hears that the registration is over, in Unix seconds: over one connection, or poll after poll. `Cut` for any other."""
    epoch, offset = registration["position"]["epoch"], registration["position"]["offset"]
    while True:
        async with aclosing(TRANSPORTS[transport](person, epoch, offset)) as heard:
            async for one in heard:
                offset = one.offset
                if one.event["type"] == "registration.completed":
                    return time.time()
        assert transport == "poll", f"{transport} ended by itself"


async def test_the_last_fact_of_a_killed_worker_is_heard_without_reconnecting(stage: Stage) -> None:
    person = stage.person("empty")  # owns nothing, so the signature, the link and the end are all that is committed
    others = list(stage.fleet.workers)
    for worker in others:
        worker.freeze()
    try:
        member = await doomed(stage, Failpoint.HANDLE_COMMITTED, 4)  # requested, signed, connecting, and the end
        await member.until_ready()
        registration = await person.register(BANK)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            hearing = [group.create_task(until_the_end(person, transport, registration)) for transport in TRANSPORTS]
            assert await member.ended() == KILLED
        stage.history.disturbed("worker killed", member.ended_at)
        assert [row["status"] for row in (await rows_of(stage.fleet, [person])).registrations] == ["completed"]
        late = [heard.result() - member.ended_at for heard in hearing]
        assert min(late) > 0, "the worker has told it, and then nothing was tried"
        assert max(late) < LATE
    finally:
        for worker in others:
            worker.thaw()
        stage.fleet.dismiss("doomed-")
    await stage.is_well()


@pytest.mark.long
async def test_a_signature_that_kills_three_workers_fails_its_registration_and_no_fourth(stage: Stage) -> None:
    others = list(stage.fleet.workers)
    for worker in others:
        worker.freeze()
    try:
        member = await doomed(stage, Failpoint.SIGN_BEFORE_CALL, 1)
        await member.until_ready()
        registration = await stage.person().register(BANK)
        for death in range(1, TRIES + 1):
            assert await member.ended() == KILLED
            stage.history.disturbed("worker killed", member.ended_at)
            if death < TRIES:
                member = await doomed(stage, Failpoint.SIGN_BEFORE_CALL, 1)
        stage.fleet.dismiss("doomed-")
    finally:
        for worker in others:
            worker.thaw()
    person = stage.people[-1]
    tape = await person.follow("sse", registration, over)
    assert tape.fresh is not None
    assert tape.fresh["status"] == "failed"
    assert tape.entries[-1].event["data"]["error"]["code"] == "internal_error"
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
