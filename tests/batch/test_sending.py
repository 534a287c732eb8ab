"""A command carried out: the grid holds whatever happens, each link is recorded once, and what is not sent stays due."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from backend.batch.calendar import in_korea, windows_on
from backend.batch.commands import DueLink, Position
from backend.batch.pace import CHUNKS_OF_MINUTE
from backend.batch.paging import page_size
from backend.batch.refreshing import ScheduledRefreshing
from backend.batch.sender import Sender, Tally
from backend.jobs.queue import Postponed
from backend.metrics import Metric
from tests.batch.stage import BANK, TELECOM, Stage

LATE = 55  # seconds into a minute at which a command may begin as well: most of what is asked here shows in five seconds


async def carried_out(stage: Stage, size: int, org_code: str = TELECOM, *, into: int = LATE, **terms: Any) -> datetime:
    """A command for whatever is due, from so many seconds into its minute on."""
    minute = await stage.command(size=size, org_code=org_code, into=into)
    await stage.sending(**terms).send(org_code, minute)
    return minute


def even(size: int) -> dict[int, int]:
    """How many leave in which tenth of a second of an undisturbed minute."""
    parts = {chunk: (chunk + 1) * size // CHUNKS_OF_MINUTE - chunk * size // CHUNKS_OF_MINUTE for chunk in range(CHUNKS_OF_MINUTE)}
    return {chunk: part for chunk, part in parts.items() if part}


async def test_a_minute_leaves_on_its_grid_and_every_link_is_recorded_once(stage: Stage) -> None:
    users = await stage.linked(31)
    minute = await carried_out(stage, 31, into=0)
    assert await stage.chunks(minute) == even(31)
    assert await stage.states() == {("recorded", 1, None): 31}
    assert await stage.due() == 0
    row = await stage.row(minute)
    assert (row["state"], row["run"], row["sent"], row["recorded"], row["failed"]) == ("ended", 1, 31, 31, 0)
    calls = await stage.calls()
    assert {call["api_type"] for call in calls} == {"scheduled"}
    assert Counter(call["user"] for call in calls if call["api_code"] == "TC01") == Counter(users)
    [assets] = await stage.execute("SELECT count(DISTINCT user_id) AS users FROM assets")
    assert assets["users"] == 31, "what was read is stored"


async def test_what_has_nothing_new_a_week_later_is_recorded_and_not_told(stage: Stage) -> None:
    await stage.linked(5)
    await carried_out(stage, 5)
    offsets = "SELECT user_id, feed_offset FROM users ORDER BY user_id"
    assert {row["feed_offset"] for row in await stage.execute(offsets)} == {1}
    asked = len(await stage.calls())
    stage.pass_days(7)
    await carried_out(stage, 5)
    assert await stage.states() == {("recorded", 1, None): 10}
    told = {row["user_id"] for row in await stage.execute(offsets) if row["feed_offset"] == 2}
    assert told == {call["user"] for call in (await stage.calls())[asked:] if call["rsp_code"] == "00000"} < await stage.users()


async def test_a_slow_page_moves_no_chunk_and_what_it_missed_is_spread_within_the_cap(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.linked(30)
    pages, page = iter(range(100)), Sender._page

    async def slow(sender: Any, behind: Position, size: int) -> list[DueLink]:
        if next(pages) == 2:
            until = stage.clock.monotonic() + 1.7
            while stage.clock.monotonic() < until:
                await asyncio.sleep(0)
        return await page(sender, behind, size)

    monkeypatch.setattr(Sender, "_page", slow)
    minute = await stage.command(size=300, into=54)
    await stage.sending().send(TELECOM, minute)
    chunks = await stage.chunks(minute)
    assert sum(chunks.values()) == 30
    assert max(chunks.values()) <= (await stage.row(minute))["per_100ms"] == 1
    first, last = min(chunks), max(chunks)
    empty = set(range(first, last)) - chunks.keys()
    assert 13 <= len(empty) <= 17, "the page was late, and nothing else"
    assert max(empty) - min(empty) == len(empty) - 1


async def test_a_page_is_read_when_the_one_before_it_was_taken(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.linked(30)
    read, page = [], Sender._page

    async def noted(sender: Any, behind: Position, size: int) -> list[DueLink]:
        read.append(size)
        return await page(sender, behind, size)

    monkeypatch.setattr(Sender, "_page", noted)
    stage.open_circuits.add(TELECOM)  # so that nothing is taken
    minute = await carried_out(stage, 240)
    assert read == [page_size(240)] == [4]
    assert (await stage.row(minute))["sent"] == 0
    assert await stage.due() == 30


async def test_two_workers_have_ranges_of_their_own(stage: Stage) -> None:
    await stage.linked(40)
    half = (await stage.positions())[19]
    first = await stage.command(size=20, limit=half, into=LATE)
    second = await stage.command(size=20, start=half, into=LATE + 1)
    await asyncio.gather(stage.sending().send(TELECOM, first), stage.sending().send(TELECOM, second))
    assert [(await stage.row(minute))["recorded"] for minute in (first, second)] == [20, 20]
    assert max(Counter(call["user"] for call in await stage.calls() if call["api_code"] == "TC01").values()) == 1


async def test_a_command_that_fails_leaves_the_others_running(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.linked(4, BANK)
    await stage.linked(4)
    refresh = ScheduledRefreshing.refresh

    async def broken(refreshing: Any, attempt: Any, provider: Any) -> Any:
        if provider.org_code == BANK:
            raise LookupError("our own fault")
        return await refresh(refreshing, attempt, provider)

    monkeypatch.setattr(ScheduledRefreshing, "refresh", broken)
    sending = stage.sending()
    minutes = [await stage.command(size=4, org_code=org_code, into=LATE) for org_code in (BANK, TELECOM)]
    await asyncio.gather(sending.send(BANK, minutes[0]), sending.send(TELECOM, minutes[1]))
    assert await stage.states() == {("recorded", 1, None): 4}
    assert await stage.states(BANK) == {("failed", 1, "internal_error"): 4}
    assert {(await stage.row(minutes[0], BANK))["state"], (await stage.row(minutes[1]))["state"]} == {"ended"}


async def test_what_a_person_refreshed_this_week_is_left_alone_and_due_next_week(stage: Stage) -> None:
    users = await stage.linked(6)
    fresh, old = users[:2], users[2:3]
    await stage.execute("UPDATE links SET last_refreshed_at = $2 WHERE user_id = ANY($1)", fresh, stage.moment(hours=-3))
    await stage.execute("UPDATE links SET last_refreshed_at = $2 WHERE user_id = ANY($1)", old, stage.moment(days=-4))
    minute = await carried_out(stage, 6)
    row = await stage.row(minute)
    assert (row["sent"], row["skipped"]) == (4, 2)
    assert await stage.due() == 0
    assert not {call["user"] for call in await stage.calls()} & set(fresh)
    stage.pass_days(7)
    assert await stage.due() == 6


async def test_too_young_links_are_passed_over_and_stay_due(stage: Stage) -> None:
    users = await stage.linked(3)
    await stage.execute("UPDATE links SET last_refreshed_at = $2 WHERE user_id = $1", users[0], stage.moment(days=-4))
    minute = await carried_out(stage, 3, min_age_days=5, skips_refreshed=False)
    assert (await stage.row(minute))["sent"] == 2
    assert await stage.due() == 1


# --- what providers do -------------------------------------------------------------------------------------------------


async def test_a_failure_is_repeated_until_the_first_success_and_not_for_ever(stage: Stage) -> None:
    await stage.linked(3)
    await stage.provider(mode="http500")
    for attempt in (1, 2):
        await carried_out(stage, 3)
        assert await stage.states() == {("failed", attempt, "provider_unavailable"): 3}
        assert await stage.due() == 3
    await stage.provider(mode="ok")
    await carried_out(stage, 3)
    assert await stage.states() == {("recorded", 3, None): 3}
    await stage.linked(2)
    await stage.provider(mode="http500")
    for _ in range(3):
        await carried_out(stage, 2)
    assert (await stage.states())["failed", 3, "provider_unavailable"] == 2
    assert await stage.due() == 0, "next week"


async def test_a_quota_that_is_used_up_is_left_for_this_week(stage: Stage) -> None:
    await stage.linked(3)
    await carried_out(stage, 3)
    await stage.provider(enforce=["quota"])
    await stage.forget()
    await carried_out(stage, 3)
    await stage.forget()
    asked = len(await stage.calls())
    await carried_out(stage, 3)
    assert {call["rsp_code"] for call in (await stage.calls())[asked:]} == {"42901"}
    assert {key[0] for key in await stage.states()} == {"left"}
    assert await stage.due() == 0


async def test_a_provider_that_is_asked_too_much_is_asked_less_and_nothing_is_given_up(stage: Stage) -> None:
    await stage.linked(100)
    await stage.provider(mode="http429")
    minute = await stage.command(size=300, into=50)
    sending = stage.sending()
    await sending.send(TELECOM, minute)
    assert 5 <= sending.tally.sent < 40
    assert {key[0] for key in await stage.states()} == {"failed"}
    assert await stage.due() == 100
    assert (await stage.row(minute))["eased"], "and operators are told"
    assert {key[1] for key in await stage.states()} == {0}, "a quota of attempts is for what fails"


async def test_a_link_a_minute_goes_on_after_a_429_every_other_minute(stage: Stage) -> None:
    await stage.linked(5)
    await stage.provider(mode="http429")
    sending, sent = stage.sending(), []
    for _ in range(5):
        minute = await stage.command(size=1, into=59)
        await sending.send(TELECOM, minute)
        sent.append((await stage.row(minute))["sent"])
        await stage.provider(mode="ok")
        stage.move(3)  # what it asked for
    assert sent == [1, 0, 1, 0, 1], "half of a link is kept from one command to the next"


async def test_a_window_that_the_provider_knows_otherwise_ends_the_command(stage: Stage) -> None:
    await stage.linked(100)
    await stage.provider(mode="out_of_window")
    minute = await stage.command(size=300, into=50)
    await stage.sending().send(TELECOM, minute)
    states = await stage.states()
    assert {(state, error) for state, _, error in states} == {("failed", "out_of_window")}
    assert sum(states.values()) <= 5
    assert (await stage.row(minute))["state"] == "ended"
    assert await stage.due() == 100
    asked = len(await stage.calls())
    stage.move(5)
    await carried_out(stage, 100)
    assert len(await stage.calls()) == asked, "nor does the next command ask it"
    [hold] = await stage.execute("SELECT org_code, reason, until FROM batch_pauses")
    provider = stage.foundation.directory().provider(TELECOM)
    assert provider is not None
    opens = windows_on(in_korea(stage.clock.now()) + timedelta(days=1), provider.transfer_windows)[0].begins
    assert tuple(hold) == (TELECOM, "out_of_window", opens)


async def test_a_consent_that_is_over_leaves_the_batch_with_its_link(stage: Stage) -> None:
    await stage.linked(1, users=["consent-expired-41"])
    await carried_out(stage, 1)
    assert await stage.states() == {("failed", 1, "consent_required"): 1}
    [link] = await stage.execute("SELECT status FROM links")
    assert link["status"] == "consent_expired"
    assert await stage.due() == 0


async def test_what_the_circuit_refused_here_is_no_attempt(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.linked(3)
    stage.refuse_calls(monkeypatch)
    await carried_out(stage, 3)
    assert await stage.states() == {("failed", 0, "provider_resting"): 3}
    assert await stage.calls() == []
    monkeypatch.undo()
    await carried_out(stage, 3)
    assert await stage.states() == {("recorded", 1, None): 3}


async def test_nothing_leaves_while_the_circuit_is_open_and_the_rest_is_spread(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.linked(25)
    stage.open_circuits.add(TELECOM)
    minute = await stage.command(size=300, into=50)
    stage.at(minute, seconds=55, then=stage.open_circuits.clear)
    await stage.sending().send(TELECOM, minute)
    chunks = await stage.chunks(minute)
    assert min(chunks) == 550
    assert max(chunks.values()) == 1
    assert sum(chunks.values()) == 25


async def test_an_operator_holds_it_within_a_second(stage: Stage) -> None:
    await stage.linked(100)
    minute = await stage.command(size=300, into=50)
    hold = "INSERT INTO batch_pauses (org_code, asked_by, asked_at) VALUES ('', 'ops', now())"
    stage.at(minute, seconds=53, then=lambda: asyncio.ensure_future(stage.execute(hold)))
    await stage.sending().send(TELECOM, minute)
    chunks = await stage.chunks(minute)
    assert 529 <= max(chunks) <= 542
    assert await stage.due() == 100 - sum(chunks.values()) > 0


async def test_a_slow_provider_does_not_get_more_than_there_is_room_for(stage: Stage) -> None:
    await stage.linked(100)
    await stage.provider(mode="hang")
    stage.waits_for_calls = False
    minute = await stage.command(size=300, into=50)
    sending = stage.sending()
    sending._tools.__dict__["most"] = 20
    job = asyncio.create_task(sending.send(TELECOM, minute))
    async with asyncio.timeout(20):
        while stage.clock.now() < stage.moment_of(minute, 59.8):
            await asyncio.sleep(0.01)  # the sandbox hangs in real time
    assert sending.tally.flying == sending.tally.sent == 10
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert sending.tally.flying == 10, "who lost the command lets end what was begun"
    await sending.close()
    assert sending.tally.flying == 0


# --- who dies, and who ends ----------------------------------------------------------------------------------------------


async def in_flight(stage: Stage, links: int) -> tuple[datetime, int]:
    """A command whose worker died two seconds after it began, with calls in flight: nothing of it is written any more. Returns those."""
    await stage.linked(links)
    await stage.provider(mode="hang")
    stage.waits_for_calls = False
    minute = await stage.command(size=300, into=50)
    sending = stage.sending()
    job = asyncio.create_task(sending.send(TELECOM, minute))
    flying: list[int] = []

    def dies() -> None:
        flying.append(sending.tally.flying)
        job.cancel()

    stage.at(minute, seconds=52, then=dies)
    await asyncio.gather(job, return_exceptions=True)
    await sending.close()
    stage.waits_for_calls = True
    await stage.provider(mode="ok")
    assert 15 < flying[0] < links
    return minute, flying[0]


async def test_what_was_in_flight_when_a_worker_died_is_unknown_and_repeated_once(stage: Stage) -> None:
    minute, flying = await in_flight(stage, 60)
    [(_, meant)] = (await stage.states()).items()
    assert flying <= meant <= flying + 1, "at most a tenth of a second's links more than were called"
    await stage.sending().send(TELECOM, minute)
    row = await stage.row(minute)
    assert (row["state"], row["run"], row["unknown"]) == ("ended", 2, meant)
    assert await stage.states() == {("recorded", 2, None): meant, ("recorded", 1, None): 60 - meant}
    asked = Counter(call["user"] for call in await stage.calls() if call["api_code"] == "TC01")
    assert 0 < sum(count - 1 for count in asked.values()) <= flying


async def test_what_is_unknown_is_left_to_next_week_where_that_is_set(stage: Stage) -> None:
    minute, _ = await in_flight(stage, 60)
    [(_, meant)] = (await stage.states()).items()
    await stage.sending(unknown_attempts=1).send(TELECOM, minute)
    assert await stage.states() == {("unknown", 1, None): meant, ("recorded", 1, None): 60 - meant}
    assert await stage.due() == 0


async def test_a_worker_that_is_told_to_end_hands_over_what_it_has_not_begun(stage: Stage) -> None:
    await stage.linked(40)
    minute = await stage.command(size=300, into=50)
    sending = stage.sending()
    stage.at(minute, seconds=52, then=sending.stop)
    with pytest.raises(Postponed):
        await sending.send(TELECOM, minute)
    begun = sending.tally.sent
    assert 18 < begun < 23
    row = await stage.row(minute)
    assert (row["state"], row["sent"], row["recorded"]) == ("running", begun, begun)
    await stage.sending().send(TELECOM, minute)
    assert await stage.states() == {("recorded", 1, None): 40}
    assert (await stage.row(minute))["unknown"] == 0


async def test_a_command_whose_minute_has_passed_sends_nothing(stage: Stage) -> None:
    await stage.linked(3)
    minute = await carried_out(stage, 3, into=61)
    assert (await stage.row(minute))["state"] == "ended"
    assert await stage.due() == 3
    assert await stage.calls() == []


async def test_a_command_of_a_provider_that_left_the_directory_ends(stage: Stage) -> None:
    minute = await carried_out(stage, 3, "X1NOBODY01")
    assert (await stage.row(minute, "X1NOBODY01"))["state"] == "ended"


def test_what_a_process_did_is_shown_to_prometheus() -> None:
    shown = {(sample.metric, *sample.labels): sample.value for sample in Tally(sent=9, recorded=4, left=2, missed=5, flying=3).measured()}
    ended = {outcome: shown.pop((Metric.BATCH_LINKS_ENDED, outcome)) for outcome in ("recorded", "failed", "left", "skipped", "unknown")}
    assert ended == {"recorded": 4, "failed": 0, "left": 2, "skipped": 0, "unknown": 0}
    assert shown == {(Metric.BATCH_LINKS_BEGUN,): 9, (Metric.BATCH_READING,): 3, (Metric.BATCH_MISSED,): 5}
