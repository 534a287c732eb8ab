"""What goes wrong in the middle of a minute: by our own fault, by a clock, by what providers ask for. Nothing of it stays open for ever."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from backend.batch.calendar import in_korea
from backend.batch.refreshing import ScheduledRefreshing
from backend.batch.sender import Sender
from backend.batch.terms import midnight
from backend.errors import EngineUnavailable, Trouble
from backend.links.rereading import Rereading
from backend.providers.calling.transport import Transport
from backend.providers.client import HttpProviderClient
from backend.providers.contract import TokenPair
from backend.providers.outcomes import Finding, RspCode, error_of, retry_at
from backend.providers.sandbox import front
from backend.storage import batch_steering, links
from tests.batch.stage import TELECOM, Stage
from tests.batch.test_sending import LATE, carried_out


async def broken(*_: Any) -> Any:
    raise LookupError("our own fault")


async def away(*_: Any) -> Any:
    raise EngineUnavailable("PostgreSQL")


async def test_an_attempt_that_cannot_even_be_given_up_is_unknown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it is under way for ever: nobody reads its link this week, and nobody is told."""
    await stage.linked(2)
    monkeypatch.setattr(ScheduledRefreshing, "refresh", broken)
    monkeypatch.setattr(ScheduledRefreshing, "give_up", away)
    minute = await carried_out(stage, 2)
    assert (await stage.row(minute))["state"] == "ended"
    assert await stage.states() == {("unknown", 1, None): 2}


async def test_pages_that_cannot_be_read_are_a_fault_that_is_seen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute that sends nothing and ends well looks like one with nothing to do."""
    await stage.linked(3)
    monkeypatch.setattr(Sender, "_page", broken)
    minute = await stage.command(size=3, into=LATE)
    sending = stage.sending()
    with pytest.raises(LookupError):
        await sending.send(TELECOM, minute)
    assert (await stage.row(minute))["state"] == "running", "it is begun again"
    monkeypatch.undo()
    await sending.send(TELECOM, minute)
    assert await stage.states() == {("recorded", 1, None): 3}


async def test_a_machine_that_slept_sends_nothing_when_its_minute_is_over(stage: Stage) -> None:
    """The clock of the grid stands still meanwhile, that of the window does not."""
    await stage.linked(100)
    minute = await stage.command(size=300, into=50)

    def sleeps() -> None:
        stage.clock._now += timedelta(hours=1)

    stage.at(minute, seconds=52, then=sleeps)
    await stage.sending().send(TELECOM, minute)
    sent = await stage.execute("SELECT sent_at FROM batch_refreshes")
    assert sent
    assert max(row["sent_at"] for row in sent) < minute + timedelta(minutes=1)


async def test_a_quota_that_is_said_to_last_is_one_links_and_holds_nobody_else_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One such link had kept all others waiting for an hour, each time that the batch came by."""
    await stage.linked(10)
    call, refused = Transport.call, list[Any]()

    async def used_up(transport: Transport, wanted: Any, **more: Any) -> Any:
        if not refused:
            refused.append(wanted)
            raise error_of(TELECOM, Finding(Trouble.BUSY, RspCode.QUOTA), retry_at("345600", stage.clock.now()))
        return await call(transport, wanted, **more)

    monkeypatch.setattr(Transport, "call", used_up)
    await carried_out(stage, 300, into=50)
    assert await stage.states() == {("left", 1, "provider_busy"): 1, ("recorded", 1, None): 9}
    assert await stage.execute("SELECT FROM batch_pauses") == []


async def test_a_retry_after_holds_every_worker(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each minute may be another worker's, and that one has not heard what was said to the first."""
    monkeypatch.setattr(front, "_RETRY_AFTER", 100)
    await stage.linked(20)
    await stage.provider(mode="http429")
    await carried_out(stage, 300, into=59)
    asked = len(await stage.calls())
    [hold] = await stage.execute("SELECT reason, until FROM batch_pauses")
    assert hold["reason"] == "provider_busy"
    assert timedelta(seconds=99) < hold["until"] - stage.clock.now() <= timedelta(seconds=100)
    await stage.provider(mode="ok")
    assert (await stage.row(await carried_out(stage, 300, into=0)))["sent"] == 0
    assert len(await stage.calls()) == asked > 0
    stage.move(40)
    assert (await stage.row(await carried_out(stage, 300, into=50)))["recorded"] == 20


async def test_a_longer_hold_stays_when_a_shorter_one_is_asked_for(stage: Stage) -> None:
    now, tomorrow = stage.clock.now(), stage.moment(days=1)
    async with stage.database.reading() as connection:
        await batch_steering.hold(connection, TELECOM, reason="out_of_window", until=tomorrow, now=now)
        await batch_steering.hold(connection, TELECOM, reason="provider_busy", until=stage.moment(seconds=9), now=now)
    [hold] = await stage.execute("SELECT reason, until FROM batch_pauses")
    assert tuple(hold) == ("out_of_window", tomorrow)


@pytest.mark.parametrize(("refreshed", "max_age", "due"), [(-2, 5, 4), (-2, 8, 6), (-2, 0, 10), (-1, 60, 10)])
async def test_a_link_that_its_person_refreshed_grows_no_older_than_it_may(stage: Stage, refreshed: int, max_age: int, due: int) -> None:
    """Its age counts from then, not from when the batch came by; this week it is left alone whatever its age. Days from a Wednesday."""
    [user] = await stage.linked(1)
    await stage.execute("UPDATE links SET last_refreshed_at = $2 WHERE user_id = $1", user, stage.moment(days=refreshed))
    await carried_out(stage, 1, max_age_days=max_age)
    [link] = await stage.execute("SELECT due_on FROM links")
    assert (link["due_on"] - in_korea(stage.clock.now())).days == due


@pytest.mark.parametrize("why", ["no time", "no PostgreSQL"])
async def test_a_refresh_token_that_was_given_is_kept_whatever_becomes_of_the_reading(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """An institution of the second version may give another one, and drop the old: not written down, the link were lost for ever."""
    await stage.linked(1)
    await stage.execute("UPDATE links SET access_expires_at = $1", stage.clock.now())
    refresh_token, renew = HttpProviderClient.refresh_token, links.renew

    async def another(client: Any, token: TokenPair, now: datetime) -> TokenPair:
        return replace(await refresh_token(client, token, now), refresh_token="another")

    async def late(*given: Any) -> bool:
        await asyncio.sleep(0.6)
        return await renew(*given)

    gone = iter([True, True])

    async def first_away(*given: Any) -> bool:
        if next(gone, False):
            raise EngineUnavailable("PostgreSQL")
        return await renew(*given)

    monkeypatch.setattr(HttpProviderClient, "refresh_token", another)
    monkeypatch.setattr(links, "renew", late if why == "no time" else first_away)
    await carried_out(stage, 1, finish=timedelta(seconds=0.3 if why == "no time" else 60))
    assert await stage.states() == {("failed", 1, "provider_timeout") if why == "no time" else ("recorded", 1, None): 1}
    [row] = await stage.execute("SELECT * FROM links")
    held = stage.hands.linking.held_in(row)
    assert held is not None
    assert held.grant.tokens.refresh_token == "another"


@pytest.mark.parametrize("news", [True, False])
async def test_what_is_recorded_after_its_week_has_ended_is_read_in_the_next_one_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, news: bool
) -> None:
    """It leaves shortly before the Saturday ends, and PostgreSQL is away for a moment: no person has refreshed it on that Sunday."""
    await stage.linked(1)
    if not news:
        await carried_out(stage, 1)
        await stage.execute("DELETE FROM batch_refreshes")
        await stage.execute("UPDATE links SET due_on = DEFAULT, last_refreshed_at = NULL")
    saturday = midnight(in_korea(stage.clock.now()) + timedelta(days=4)) - timedelta(minutes=2)
    stage.clock.move(saturday - stage.clock.now())
    read = Rereading.read

    async def for_long(*given: Any) -> Any:
        reading = await read(*given)
        stage.clock.move(timedelta(minutes=3))
        return reading

    monkeypatch.setattr(Rereading, "read", for_long)
    await carried_out(stage, 1, into=30)
    monkeypatch.undo()
    assert await stage.states() == {("recorded", 1, None): 1}
    assert await stage.due() == 1, "of the week that has begun"
    stage.clock.move(timedelta(days=2))
    await carried_out(stage, 1)
    assert await stage.states() == {("recorded", 1, None): 2}


async def test_one_link_that_cannot_be_opened_stops_no_other(stage: Stage) -> None:
    """Its token is another row's, or damaged: our own fault, and given up for this week after as many attempts as any."""
    poor, *_ = await stage.linked(6)
    await stage.execute(
        "UPDATE links SET access_token_sealed = (SELECT access_token_sealed FROM links WHERE user_id <> $1 LIMIT 1) WHERE user_id = $1",
        poor,
    )
    for attempt in (1, 2, 3):
        await carried_out(stage, 6)
        assert await stage.states() == {("failed", attempt, "internal_error"): 1, ("recorded", 1, None): 5}
    assert await stage.due() == 0
    assert poor not in {call["user"] for call in await stage.calls()}
