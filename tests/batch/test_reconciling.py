"""Each minute has its command: whoever makes it, from rows alone, and never two that overlap."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from backend.batch.commands import BEGINNING, Position, command_id
from backend.batch.pace import MINUTE
from backend.batch.planning import Planning
from backend.batch.reconciling import GIVEN_UP, Reconciling
from backend.batch.terms import Terms, midnight
from backend.clock import KST, ManualClock, iso
from backend.jobs.queue import MemoryQueue, QueueName
from backend.providers.contract import Provider
from backend.reporting.alarms import AlertKind, Facts
from backend.storage import batch_plans, batch_steering
from backend.storage.database import Database
from backend.storage.operators import Action
from tests.batch.given import SUNDAY
from tests.batch.rows import BANK, CARD, directory, linked, provider, ran

ONE = datetime(2026, 11, 22, 1, tzinfo=KST)
SHORT = ("0100:0116",)  # ten minutes, a reserve of five, and the finish line
SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)
FINISH = timedelta(seconds=60)

# What a sender would have done: every link of the command is recorded, but those that are named.
_SENT = """
    WITH done AS (
      UPDATE batch_commands SET state = 'ended', run = 1, sent = size, recorded = size - cardinality($1::bigint[]),
        failed = cardinality($1::bigint[])
      WHERE state <> 'ended' RETURNING *)
    UPDATE links SET due_on = DATE '2026-12-05', last_refreshed_at = $2 FROM done
    WHERE links.org_code = done.org_code AND (due_on, link_id) > (start_due, start_link) AND (due_on, link_id) <= (limit_due, limit_link)
      AND link_id <> ALL($1::bigint[])
"""


class Stage:
    def __init__(self, database: Database, *providers: Provider, terms: Terms | None = None) -> None:
        self.database, self.terms = database, terms or Terms()
        self.clock = ManualClock(midnight(SUNDAY))
        self.queue = MemoryQueue(clock=self.clock)
        self.directory = directory(*providers)
        self.resting: frozenset[str] = frozenset()
        self.alarms: Mapping[str, Facts] = {}
        self.shell = self.another()

    def another(self, clock: ManualClock | None = None) -> Reconciling:
        """One more coordinator that believes to lead."""

        async def resting() -> frozenset[str]:
            return self.resting

        async def align(kind: AlertKind, found: Mapping[str, Facts]) -> int:
            assert kind is AlertKind.BATCH_LATE
            self.alarms = found
            return len(found)

        return Reconciling(
            database=self.database,
            queue=self.queue,
            directory=lambda: self.directory,
            resting=resting,
            align=align,
            terms=self.terms,
            clock=clock or self.clock,
        )

    async def plan(self) -> None:
        await Planning(database=self.database, directory=lambda: self.directory, terms=self.terms, clock=self.clock).plan_missing(
            self.clock.now()
        )

    async def at(self, moment: datetime) -> int:
        """How much was found to do."""
        self.clock.move(moment - self.clock.now())
        return await self.shell.reconcile(moment)

    async def sent(self, *but: int) -> None:
        await ran(self.database, _SENT, list(but), self.clock.now())
        for job in self.queue.take(QueueName.BATCH):
            self.queue.end(job.job_id)

    async def commands(self, org_code: str = BANK) -> list[asyncpg.Record]:
        return list(await ran(self.database, "SELECT * FROM batch_commands WHERE org_code = $1 ORDER BY minute", org_code))

    async def today(self) -> int:
        return int((await ran(self.database, "SELECT links FROM batch_days WHERE day = $1", SUNDAY))[0][0])


def start(row: Mapping[str, Any]) -> Position:
    return Position(row["start_due"], row["start_link"])


def limit(row: Mapping[str, Any]) -> Position:
    return Position(row["limit_due"], row["limit_link"])


async def test_a_night_has_a_command_for_each_minute_and_no_two_overlap(database: Database) -> None:
    await linked(database, 1_000)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    for minute in range(16):
        await stage.at(ONE + minute * MINUTE - 5 * SECOND)
        await stage.sent()
    made = await stage.commands()
    today = await stage.today()
    assert [row["minute"] for row in made] == [ONE + number * MINUTE for number in range(10)]
    assert sum(row["size"] for row in made) == today
    assert {row["size"] for row in made} == {today // 10, today // 10 + 1}
    assert start(made[0]) == BEGINNING
    assert [start(row) for row in made[1:]] == [limit(row) for row in made[:-1]]
    assert (await ran(database, "SELECT count(*) FROM links WHERE due_on > $1", SUNDAY + 7 * A_DAY))[0][0] == today
    assert {row["week"] for row in made} == {row["day"] for row in made} == {SUNDAY}


@pytest.mark.parametrize("again", [None, 20.0])
async def test_a_window_that_opens_at_midnight_has_its_first_minute_too(database: Database, again: float | None) -> None:
    """The night's plan is made in that minute. Made once more in it, when the minute has its command, it takes nothing twice."""
    await linked(database, 1_000)
    stage = Stage(database, provider(transfer_windows=("0000:0016",)))
    night = midnight(SUNDAY)
    stage.clock.move(night + 0.8 * SECOND - stage.clock.now())
    await stage.plan()
    await stage.at(night + 1.7 * SECOND)
    today = await stage.today()
    if again is not None:
        stage.clock.move(night + again * SECOND - stage.clock.now())
        await ran(database, "UPDATE batch_plans SET is_stale = true")
        await stage.plan()
    await stage.sent()
    for minute in range(1, 16):
        await stage.at(night + minute * MINUTE - 5 * SECOND)
        await stage.sent()
    made = await stage.commands()
    assert [row["minute"] for row in made][: 10 if again is None else 1] == [night + n * MINUTE for n in range(10 if again is None else 1)]
    sizes = [row["size"] for row in made]
    assert max(sizes) - min(sizes) <= (1 if again is None else 12)
    assert (again is not None and today < sum(sizes) < today + today // 10 + 5) or sum(sizes) == today


async def test_a_command_of_a_clock_that_was_wrong_stops_no_one_for_longer_than_that_clock(database: Database) -> None:
    """A leader whose clock was a day ahead for a moment: until that day nobody would send anything."""
    await linked(database, 1_000)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    await stage.at(ONE - 5 * SECOND)
    await stage.sent()
    await ran(database, "UPDATE batch_commands SET minute = minute + interval '1 day'")
    await stage.at(ONE + 55 * SECOND)
    assert [row["minute"] for row in await stage.commands()] == [ONE + MINUTE, ONE + A_DAY]


async def test_a_command_is_asked_for_before_its_minute_and_once(database: Database) -> None:
    await linked(database, 100)
    stage = Stage(database, provider(transfer_windows=("0100:0107",)))
    await stage.plan()
    assert await stage.at(ONE - 6 * SECOND) == 0
    assert await stage.at(ONE - 5 * SECOND) == 1
    assert [await stage.at(ONE - ahead * SECOND) for ahead in (4, 2, 0)] == [0, 0, 0]
    assert [job.job_id for job in stage.queue.waiting(QueueName.BATCH)] == [command_id(BANK, ONE)]
    (job,) = stage.queue.take(QueueName.BATCH)
    assert (job.function, job.kwargs) == ("scheduled_send", {"org_code": BANK, "minute": iso(ONE)})


async def test_a_job_that_was_lost_is_asked_for_again(database: Database) -> None:
    await linked(database, 100)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    await stage.at(ONE)
    stage.queue = MemoryQueue(clock=stage.clock)  # Valkey was wiped, and so was its coordinator
    stage.shell = stage.another()
    await stage.at(ONE + 2 * SECOND)
    assert stage.queue.waiting(QueueName.BATCH) == []
    await stage.at(ONE + 3 * SECOND)
    assert len(stage.queue.waiting(QueueName.BATCH)) == 1


@pytest.mark.parametrize("why", ["paused", "all paused", "resting", "not automatic", "outside", "nothing due"])
async def test_nothing_is_sent(database: Database, why: str) -> None:
    if why != "nothing due":
        await linked(database, 100)
    stage = Stage(database, provider(transfer_windows=SHORT), terms=Terms(automatic=why != "not automatic"))
    await stage.plan()
    if "paused" in why:
        held = "" if why == "all paused" else BANK
        async with database.reading() as connection:
            await batch_steering.pause(
                connection, Action(at=ONE, who="olga", action="batch.pause", org_code=held, reason="", request_id="r")
            )
    stage.resting = frozenset({BANK} if why == "resting" else ())
    assert await stage.at(ONE if why != "outside" else ONE - MINUTE) == 0
    assert stage.queue.waiting(QueueName.BATCH) == []


@pytest.mark.parametrize("ended_by", ["its window", "an operator", "a rehearsal"])
async def test_who_said_that_no_window_is_open_is_asked_again_when_one_begins_or_somebody_says_so(
    database: Database, ended_by: str
) -> None:
    await linked(database, 100)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    opens = ONE + 4 * MINUTE
    async with database.reading() as connection:
        await batch_steering.hold(connection, BANK, reason="out_of_window", until=opens, now=ONE)
    assert [await stage.at(ONE + ahead * SECOND) for ahead in (0, 59, 120)] == [0, 0, 0]
    if ended_by == "its window":
        assert [await stage.at(opens - 6 * SECOND), await stage.at(opens - 5 * SECOND)] == [0, 1]
    elif ended_by == "an operator":
        async with database.reading() as connection:
            done = Action(at=stage.clock.now(), who="olga", action="batch.resume", org_code=BANK, reason="", request_id="r")
            await batch_steering.resume(connection, done, SUNDAY)
        assert await stage.at(ONE + 3 * MINUTE) == 1
    else:
        await rehearse(stage, ONE + 3 * MINUTE, 3 * MINUTE)
        assert await stage.at(ONE + 3 * MINUTE) == 1


async def test_who_is_held_does_not_hold_others_and_goes_on_in_the_middle_of_a_minute(database: Database) -> None:
    await linked(database, 700)
    await linked(database, 700, org_code=CARD)
    stage = Stage(database, provider(transfer_windows=SHORT), provider(CARD, transfer_windows=SHORT))
    await stage.plan()
    stage.resting = frozenset({CARD})
    assert await stage.at(ONE) == 1
    stage.resting = frozenset()
    assert await stage.at(ONE + 40 * SECOND) == 1
    (row,) = await stage.commands(CARD)
    assert row["minute"] == ONE


@pytest.mark.parametrize("apart", [0, 1, 3])
async def test_two_coordinators_that_both_lead_make_no_ranges_that_overlap(database: Database, apart: int) -> None:
    """The clock of the second is some minutes ahead; both look at the same time, again and again."""
    await linked(database, 700)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    ahead = ManualClock(stage.clock.now() + apart * MINUTE)
    other = stage.another(ahead)
    for minute in range(10):
        moment = ONE + minute * MINUTE
        stage.clock.move(moment - stage.clock.now())
        ahead.move(moment + apart * MINUTE - ahead.now())
        await asyncio.gather(
            *(shell.reconcile(clock.now()) for shell, clock in ((stage.shell, stage.clock), (other, ahead)) for _ in range(2))
        )
    made = await stage.commands()
    assert len(made) >= 10
    assert [start(row) for row in made[1:]] == [limit(row) for row in made[:-1]]
    assert all(start(row) < limit(row) for row in made)


async def test_what_failed_is_tried_again_in_a_new_pass_when_nothing_is_left_ahead(database: Database) -> None:
    await linked(database, 100)
    stage = Stage(database, provider())
    await rehearse(stage, ONE, 3 * MINUTE)
    await stage.at(ONE)
    await stage.sent(7, 20)
    await stage.at(ONE + MINUTE)
    await stage.sent()
    await stage.at(ONE + 2 * MINUTE)
    made = await stage.commands()
    assert [row["size"] for row in made] == [50, 26, 26]  # the reserve is taken for what failed
    assert start(made[2]) == BEGINNING
    assert limit(made[2]).link_id == 100


async def rehearse(stage: Stage, begins: datetime, within: timedelta) -> None:
    """Everything that is due, in a window of its own."""
    await stage.plan()
    async with stage.database.reading() as connection:
        done = {"now": begins, "who": "olga", "reason": "", "request_id": "r"}
        await batch_plans.add_windows(connection, {BANK: begins + within}, begins, done)
    await stage.plan()


async def test_a_rehearsal_takes_all_that_is_due_whatever_the_hour_and_the_plan(database: Database) -> None:
    await linked(database, 2_000)
    stage = Stage(database, terms=Terms(automatic=False))
    begins = datetime(2026, 11, 22, 0, 0, 7, tzinfo=KST)
    await rehearse(stage, begins, 3 * MINUTE)
    for minute in range(3):
        await stage.at(begins + minute * MINUTE - SECOND)
        await stage.sent()
    made = await stage.commands()
    assert [(row["minute"], row["size"]) for row in made] == [(begins, 1_000), (begins + MINUTE, 1_000)]
    await linked(database, 10, first=5_000)
    assert await stage.at(begins + 3 * MINUTE) == 0, "it is over"


async def test_a_pass_goes_on_in_the_next_night_and_begins_anew_with_the_week(database: Database) -> None:
    await linked(database, 7_000)
    stage = Stage(database)
    await stage.plan()
    await stage.at(ONE)
    await stage.sent()
    stage.clock.move(ONE + A_DAY - MINUTE - stage.clock.now())
    await stage.plan()
    await stage.at(ONE + A_DAY)
    first, second = await stage.commands()
    assert start(second) == limit(first)
    await stage.sent()
    stage.clock.move(ONE + 7 * A_DAY - MINUTE - stage.clock.now())
    await stage.plan()
    await stage.at(ONE + 7 * A_DAY)
    assert start((await stage.commands())[-1]) == BEGINNING


async def test_a_command_that_nobody_will_end_is_closed_and_what_it_was_doing_is_unknown(database: Database) -> None:
    await linked(database, 1_000)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    await stage.at(ONE)
    await ran(
        database,
        """INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
        SELECT user_id, org_code, $1, link_id, $2, 1, 1, CASE link_id WHEN 1 THEN 'recorded' ELSE 'sent' END, $2 FROM links
        WHERE link_id <= 4""",
        SUNDAY,
        ONE,
    )
    await ran(database, "UPDATE batch_commands SET state = 'running', run = 1, sent = 4, beat_at = $1", ONE + 2 * SECOND)
    over = ONE + MINUTE + FINISH + GIVEN_UP
    stage.resting = frozenset({BANK})
    assert await stage.at(over - SECOND) == 0
    await ran(database, "UPDATE batch_commands SET beat_at = $1", over - 20 * SECOND)
    assert await stage.at(over) == 0, "somebody is still there"
    assert await stage.at(over + 10 * SECOND) == 1
    (row,) = await stage.commands()
    assert (row["state"], row["run"], row["unknown"]) == ("ended", 2, 3)
    states = await ran(database, "SELECT state, count(*) FROM batch_refreshes GROUP BY state ORDER BY state")
    assert [tuple(each) for each in states] == [("recorded", 1), ("unknown", 3)]
    assert await stage.at(over + 11 * SECOND) == 0


async def test_what_cannot_be_done_in_time_is_an_alarm_until_it_can(database: Database) -> None:
    await linked(database, 1_000)
    stage = Stage(database, provider(calls_per_second=0.01))
    await stage.plan()
    await stage.at(ONE - MINUTE)
    by = iso(datetime(2026, 11, 28, 7, tzinfo=KST))
    left = (await ran(database, "SELECT left_over FROM batch_plans"))[0][0]
    assert stage.alarms == {f"batch:{BANK}": {"org_code": BANK, "left": left, "by": by}}
    stage.directory = directory(provider())
    await ran(database, "UPDATE batch_plans SET is_stale = true")
    await stage.plan()
    await stage.at(ONE - 20 * SECOND)
    assert stage.alarms == {}


async def test_on_saturday_it_is_an_alarm_as_soon_as_the_minutes_left_are_too_few(database: Database) -> None:
    await linked(database, 600)
    saturday = ONE + 6 * A_DAY
    stage = Stage(database, provider(calls_per_second=4.0))  # 60 links a minute
    stage.clock.move(saturday - MINUTE - stage.clock.now())
    await stage.plan()
    stage.resting = frozenset({BANK})
    last = saturday + timedelta(hours=5, minutes=49)
    await stage.at(last - 40 * SECOND)
    assert stage.alarms == {}
    await stage.at(last + MINUTE)
    assert stage.alarms[f"batch:{BANK}"]["left"] == 120  # the minute that has begun counts for none


async def test_on_saturday_a_provider_that_is_too_slow_for_what_is_left_is_an_alarm_until_it_is_quick_again(database: Database) -> None:
    """Whatever it would take: so much is left at the pace of its last minutes when the window closes."""
    await linked(database, 3_000)
    stage = Stage(database, provider())
    stage.clock.move(ONE + 6 * A_DAY - MINUTE - stage.clock.now())
    await stage.plan()

    async def minutes(first: int, count: int, sent: str) -> list[int]:
        """How many are told as left, when a minute's command is made and after it has ended."""
        told = []
        for minute in range(first, first + count):
            for ahead in (-5 * SECOND, 40 * SECOND):
                await stage.at(ONE + 6 * A_DAY + minute * MINUTE + ahead)
                await ran(database, f"UPDATE batch_commands SET state = 'ended', run = 1, sent = {sent} WHERE state <> 'ended'")
                told.append(int(stage.alarms.get(f"batch:{BANK}", {}).get("left", 0)))
        return told

    assert set(await minutes(0, 20, "size")) == {0}
    slow = await minutes(20, 20, "size / 2")
    assert slow[:10] == [0] * 10, "a few slow minutes are caught up with"
    assert min(slow[next(place for place, left in enumerate(slow) if left) :]) > 500, "it is not over with each new command"
    assert slow[-1] > 1_000
    stage.resting = frozenset({BANK})
    assert (await minutes(40, 15, "1"))[-1] == 0, "what rests is not slow: it may be back at once, and there is time"
    stage.resting = frozenset()
    assert (await minutes(55, 25, "size"))[-1] == 0


async def test_links_that_people_refreshed_meanwhile_are_not_counted_into_a_range(database: Database) -> None:
    await linked(database, 100)
    stage = Stage(database)
    await rehearse(stage, ONE, 2 * MINUTE)
    await ran(database, "UPDATE links SET last_refreshed_at = $1 WHERE link_id <= 30", ONE - SECOND)
    await stage.at(ONE)
    (row,) = await stage.commands()
    assert limit(row).link_id == 30 + row["size"]


async def test_what_was_recorded_but_not_counted_when_a_worker_died_is_counted(database: Database) -> None:
    await linked(database, 1_000)
    stage = Stage(database, provider(transfer_windows=SHORT))
    await stage.plan()
    await stage.at(ONE)
    await ran(database, _RECORDED, SUNDAY, ONE, 9)
    await ran(database, "UPDATE batch_commands SET state = 'ended', run = 2, sent = 9, recorded = 7")
    await stage.at(ONE + 20 * SECOND)
    assert (await stage.commands())[0]["recorded"] == 9
    await ran(database, "UPDATE batch_commands SET run = 1, recorded = 7")
    await stage.at(ONE + 40 * SECOND)
    assert (await stage.commands())[0]["recorded"] == 7, "nobody died: its own count stands"


_RECORDED = """
    INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
    SELECT user_id, org_code, $1, link_id, $2, 1, 1, 'recorded', $2 FROM links WHERE link_id <= $3
"""
