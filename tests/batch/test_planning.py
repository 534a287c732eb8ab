"""Plans as rows: made when they are missing, of yesterday, or asked for; from what is counted, whatever was counted before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backend.batch.calendar import sunday_of
from backend.batch.planning import LOOK, Planning
from backend.batch.terms import Terms, midnight
from backend.clock import ManualClock
from backend.providers.contract import Provider
from backend.providers.traffic import PROBES
from backend.storage import batch_commands, batch_plans, batch_steering
from backend.storage.database import Database
from backend.storage.operators import Action
from tests.batch.given import SUNDAY
from tests.batch.rows import BANK, CARD, ONE, directory, linked, provider, ran

NIGHT = midnight(SUNDAY)
RESUMED = Action(at=ONE, who="olga", action="batch.resume", org_code=CARD, reason="", request_id="r")
A_DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def planning(database: Database, *providers: Provider, terms: Terms | None = None) -> Planning:
    return Planning(database=database, directory=lambda: directory(*providers), terms=terms or Terms(), clock=ManualClock(NIGHT))


async def planned(database: Database, now: datetime = NIGHT, org_code: str = BANK) -> dict[str, Any]:
    async with database.reading() as connection:
        rows = {row["org_code"]: dict(row) for row in await batch_plans.plans(connection, sunday_of(now.date()), now.date())}
        days = [dict(row) for row in await batch_plans.days_of(connection, SUNDAY) if row["org_code"] == org_code]
    return {**rows[org_code], "days": days}


async def test_a_provider_without_a_plan_gets_one_and_then_keeps_it_for_the_day(database: Database) -> None:
    await linked(database, 700)
    shell = planning(database)
    assert await shell.plan_missing(NIGHT) == 1
    made = await planned(database)
    assert (made["links"], made["missing"], made["gap"], made["impossible_on"]) == (700, 0, 0, None)
    assert sum(day["links"] for day in made["days"]) == 700
    assert len(made["days"]) == 7
    assert made["today"] == made["days"][0]["links"] > 0
    assert await shell.plan_missing(NIGHT + timedelta(hours=23, minutes=59)) == 0


async def test_each_night_it_is_made_again_from_what_remains(database: Database) -> None:
    await linked(database, 700)
    shell = planning(database)
    await shell.plan_missing(NIGHT)
    before = await planned(database)
    await ran(database, "UPDATE links SET due_on = '2026-12-05' WHERE user_id <= 'u-3'")  # what is done is due next week
    left = (await ran(database, "SELECT count(*) FROM links WHERE due_on < '2026-12-05'"))[0][0]
    assert await shell.plan_missing(NIGHT + A_DAY) == 1
    after = await planned(database, NIGHT + A_DAY)
    assert after["links"] == left < 700
    assert after["days"][0] == before["days"][0], "a day that is over stays as it was planned"
    assert sum(day["links"] for day in after["days"][1:]) == left


async def test_a_plan_that_is_asked_for_is_made_at_once(database: Database) -> None:
    shell = planning(database, provider(), provider(CARD))
    assert await shell.plan_missing(NIGHT) == 2
    await linked(database, 10, org_code=CARD)
    async with database.reading() as connection:
        await batch_steering.resume(connection, RESUMED, SUNDAY)
    assert await shell.plan_missing(ONE - A_DAY) == 1
    assert (await planned(database, ONE - A_DAY, CARD))["links"] == 10
    assert await shell.plan_missing(ONE - A_DAY) == 0


async def test_a_provider_that_takes_more_than_it_did_is_planned_anew_at_once(database: Database) -> None:
    """An operator who is told that the week is too short for it, and agrees on more, hears the end of it, and not the next night."""
    await linked(database, 1_000)
    agreed = [provider(calls_per_second=0.01), provider(CARD)]
    shell = Planning(database=database, directory=lambda: directory(*agreed), terms=Terms(), clock=ManualClock(NIGHT))
    assert await shell.plan_missing(NIGHT) == 2
    assert (await planned(database))["left_over"] > 0
    assert await shell.plan_missing(NIGHT + SECOND) == 0
    agreed[0] = provider(calls_per_second=50.0)
    assert await shell.plan_missing(NIGHT + 2 * SECOND) == 1
    assert (await planned(database))["left_over"] == 0
    agreed[1] = provider(CARD, transfer_windows=("0200:0800",))
    assert await shell.plan_missing(NIGHT + 3 * SECOND) == 1
    assert await shell.plan_missing(NIGHT + 4 * SECOND) == 0


async def test_a_leader_that_begins_plans_anew_what_was_impossible_before(database: Database) -> None:
    """It cannot know on which terms that was planned: settings change with a restart."""
    await linked(database, 1_000)
    await linked(database, 10, org_code=CARD, first=2_000)
    await planning(database, provider(calls_per_second=0.01), provider(CARD)).plan_missing(NIGHT)
    following = planning(database, provider(calls_per_second=50.0), provider(CARD))
    assert await following.plan_missing(NIGHT + SECOND) == 1
    assert (await planned(database))["left_over"] == 0
    assert await following.plan_missing(NIGHT + 2 * SECOND) == 0


async def test_counting_goes_slice_by_slice_over_what_is_due_and_what_is_not(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_plans, "SLICE", 7)
    await linked(database, 40)
    await linked(database, 30, due_on=SUNDAY + 6 * A_DAY, first=41)
    await ran(database, "UPDATE links SET last_refreshed_at = $1 WHERE link_id BETWEEN 11 AND 30", NIGHT + timedelta(hours=1))
    await ran(database, "UPDATE links SET status = 'revoked' WHERE link_id = 70")
    await ran(
        database,
        """INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
        SELECT user_id, org_code, $1, link_id, $2, 1, CASE link_id % 2 WHEN 0 THEN 3 ELSE 1 END,
          (array['failed', 'left', 'unknown'])[1 + link_id % 3], $2
        FROM links WHERE link_id <= 6""",
        SUNDAY,
        NIGHT,
    )  # 1: left, 2: unknown and again (3 > 2), 3: failed once, 4: left, 5: unknown once, 6: failed three times
    await planning(database).plan_missing(NIGHT)
    assert (await planned(database))["links"] == 70 - 20 - 1 - 4
    await planning(database, terms=Terms(skips_refreshed=False, attempts=4, unknown_attempts=1)).plan([provider()], NIGHT)
    assert (await planned(database))["links"] == 70 - 1 - 4


async def test_links_that_are_too_young_wait_for_their_day_or_for_the_next_week(database: Database) -> None:
    await linked(database, 20)
    await ran(database, "UPDATE links SET last_refreshed_at = $1 WHERE link_id <= 5", NIGHT - A_DAY)
    terms = Terms(min_age_days=4, skips_refreshed=False)
    await planning(database, terms=terms).plan_missing(NIGHT)
    assert (await planned(database))["links"] == 20
    await ran(database, "UPDATE links SET last_refreshed_at = $1 WHERE link_id <= 5", NIGHT + 3 * A_DAY)  # old enough on Sunday
    await planning(database, terms=terms).plan([provider()], NIGHT + 3 * A_DAY)
    assert (await planned(database, NIGHT + 3 * A_DAY))["links"] == 15


async def test_what_calls_cost_and_what_people_called_is_read_from_the_sums(database: Database) -> None:
    await linked(database, 100)
    sums = """INSERT INTO traffic (hour, org_code, api_code, scheduled, calls, successes, cancelled, slow, ms, ms_squared, histogram)
        VALUES ($1, $2, 'BA01', $3, $4, $4, 0, 0, 1, 1, '{}')"""
    for ahead in range(1, 30):
        await ran(database, sums, NIGHT - ahead * A_DAY, BANK, False, 1_000)
    await ran(database, sums, NIGHT - A_DAY, BANK, True, 650)
    await ran(database, sums, NIGHT, BANK, True, 50)
    await ran(
        database,
        """INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms,
        per_minute, state, at_due, at_link, sent, recorded, created_at)
        VALUES ($1, $2, $3, $3, $3, 1, $3, 1, 1, 1, 1, 'ended', $3, 1, 130, 100, $2)""",
        BANK,
        NIGHT - A_DAY,
        SUNDAY,
    )
    await planning(database).plan_missing(NIGHT + timedelta(minutes=5))
    made = await planned(database)
    assert made["calls_per_link"] == 7_000
    assert made["days"][0]["already"] == 50
    assert all(500 < day["user_calls"] < 2_500 for day in made["days"])
    assert made["forecast_error"] is not None


async def test_hours_in_which_most_links_failed_do_not_say_what_a_link_costs(database: Database) -> None:
    """Three nights at an institution that refuses each link's first call: counted, its links would cost a thousand calls each, and the
    batch were far too slow for two weeks after it is well again."""
    sums = """INSERT INTO traffic (hour, org_code, api_code, scheduled, calls, successes, cancelled, slow, ms, ms_squared, histogram)
        VALUES ($1, $2, 'BA01', TRUE, $3, 0, 0, 0, 1, 1, '{}')"""
    made = """INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms,
        per_minute, state, at_due, at_link, sent, recorded, created_at)
        VALUES ($1, $2, $3, $3, $3, 1, $3, 1, 1, 1, 1, 'ended', $3, 1, $4, $5, $2)"""
    for ago, calls, sent, recorded in ((5, 6_000, 1_000, 1_000), (3, 200_000, 100_000, 0), (2, 200_000, 100_000, 90)):
        await ran(database, sums, NIGHT - ago * A_DAY, BANK, calls)
        await ran(database, made, BANK, NIGHT - ago * A_DAY, SUNDAY, sent, recorded)
    async with database.reading() as connection:
        assert await batch_plans.scheduled_calls(connection, [BANK], NIGHT) == {BANK: (0, 6.0)}
        assert await batch_plans.scheduled_calls(connection, [BANK], NIGHT + 10 * A_DAY) == {BANK: (0, None)}, "nothing was measured"


async def test_probes_are_no_calls_of_people(database: Database) -> None:
    sums = """INSERT INTO traffic (hour, org_code, api_code, scheduled, calls, successes, cancelled, slow, ms, ms_squared, histogram)
        VALUES ($1, $2, $3, FALSE, $4, $4, 0, 0, 1, 1, '{}')"""
    await ran(database, sums, NIGHT - A_DAY, BANK, "BA01", 1_000)
    await ran(database, sums, NIGHT - A_DAY, BANK, PROBES, 90)
    async with database.reading() as connection:
        [day] = await batch_plans.past_days(connection, [BANK], NIGHT, without=PROBES)
        recent = await batch_commands.user_calls(connection, NIGHT - 2 * A_DAY, without=PROBES)
    assert (day["calls"], recent) == (1_000, {BANK: 1_000})


async def test_an_impossible_week_is_planned_as_far_as_it_goes(database: Database) -> None:
    await linked(database, 1_000)
    await planning(database, provider(calls_per_second=0.01)).plan_missing(NIGHT)
    made = await planned(database)
    assert made["left_over"] > 0
    assert made["impossible_on"] == SUNDAY + 6 * A_DAY
    assert sum(day["links"] for day in made["days"]) == 1_000 - made["left_over"]


async def test_what_a_rehearsal_has_to_do_is_counted_when_it_opens(database: Database) -> None:
    await linked(database, 30)
    shell = planning(database)
    await shell.plan_missing(NIGHT)
    async with database.reading() as connection:
        done = {"now": NIGHT, "who": "olga", "reason": "", "request_id": "r"}
        await batch_plans.add_windows(connection, {BANK: NIGHT + timedelta(minutes=3)}, NIGHT, done)
    assert await shell.plan_missing(NIGHT) == 1
    async with database.reading() as connection:
        window = (await batch_plans.open_windows(connection, NIGHT))[0]
        assert (window["links"], window["counted_at"]) == (30, NIGHT)
        assert await batch_plans.open_windows(connection, NIGHT + timedelta(minutes=3)) == []
    assert await shell.plan_missing(NIGHT) == 0
    assert [tuple(row) for row in await ran(database, "SELECT who, action, org_code FROM operator_actions")] == [
        ("olga", "batch.run", BANK)
    ]


async def test_links_that_come_after_a_plan_have_it_made_again_soon(database: Database) -> None:
    shell = planning(database)
    assert await shell.plan_missing(NIGHT) == 1
    assert await shell.plan_missing(NIGHT + LOOK) == 0
    await linked(database, 500)
    assert await shell.plan_missing(NIGHT + LOOK * 1.5) == 0
    assert await shell.plan_missing(NIGHT + LOOK * 2) == 1
    assert (await planned(database))["links"] == 500
    assert await shell.plan_missing(NIGHT + LOOK * 3) == 0
