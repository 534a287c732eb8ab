"""Consents added up once a day are what the whole history says, however late its rows come and whoever adds up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from backend.reporting.figures import borders, day_of
from backend.reporting.rolling import EVERY, SETTLING, WAIT, ConsentDays
from backend.reporting.statistics import DAYS, Consents, summed_up
from backend.reporting.weeks import Weeks
from backend.storage import consent_days
from backend.storage.database import Database
from backend.storage.statements import statement
from tests.reporting.given import BANK, CARD

SUNDAY = date(2021, 9, 5)
BEGINS, _ = borders(SUNDAY)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
_ADD = "INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at) VALUES ($1, $2, 'tx', $3, $4, $5)"
# All of it at once, as the report read it before days were added up: a week, from every row that there is.
_WHOLE = statement(
    """
    WITH spans AS (
      SELECT org_code, happened, at AS begins, least(lead(at) OVER (PARTITION BY user_id, org_code ORDER BY at, id),
        (CAST(ends_on AS timestamp) - interval '9 hours') AT TIME ZONE 'UTC') AS ends
      FROM consent_history WHERE at < :ends),
    days AS (
      SELECT number, CAST(:begins AS timestamptz) + number * interval '1 day' AS begins,
        CAST(:begins AS timestamptz) + (number + 1) * interval '1 day' AS ends
      FROM generate_series(0, 6) AS number)
    SELECT days.number, spans.org_code,
      count(*) FILTER (WHERE spans.happened = 'granted' AND spans.begins >= days.begins) AS new,
      count(*) FILTER (WHERE spans.happened IN ('revoked', 'withdrawn') AND spans.begins >= days.begins) AS revoked,
      count(*) FILTER (WHERE spans.happened = 'granted' AND (spans.ends IS NULL OR spans.ends >= days.ends)) AS held
    FROM days JOIN spans ON spans.begins < days.ends
    GROUP BY days.number, spans.org_code ORDER BY days.number, spans.org_code
    """
)

Row = tuple[str, str, str, date | None, datetime]


async def whole(database: Database, sunday: date, today: date) -> list[Consents]:
    begins, _ = borders(sunday)
    async with database.reading() as connection:
        rows = await _WHOLE.rows(connection, {"begins": begins, "ends": begins + DAYS * DAY})
    found = [
        Consents(day=sunday + row["number"] * DAY, org_code=row["org_code"], new=row["new"], revoked=row["revoked"], held=row["held"])
        for row in rows
    ]
    return [each for each in found if each.day <= today]


async def write(database: Database, rows: Sequence[Row]) -> None:
    async with database.reading() as connection:
        await connection.executemany(_ADD, rows)


async def add_up(sweep: ConsentDays, database: Database, now: datetime) -> None:
    await sweep.sweep(now)
    await nobody_writes(database)
    await sweep.sweep(now + WAIT)


async def nobody_writes(database: Database) -> None:
    """PostgreSQL's own, too: it analyses tables when it pleases."""
    async with database.reading() as connection, asyncio.timeout(20):
        noted = await consent_days.note(connection)
        while not await consent_days.settled(connection, noted):
            await asyncio.sleep(0.01)


async def added_up(database: Database) -> tuple[int, date | None]:
    async with database.reading() as connection:
        row = await connection.fetchrow("SELECT count(*), max(day) FROM consent_days_done")
        assert row is not None
    return row[0], row[1]


def moments(dice: random.Random, begins: datetime, ends: datetime, count: int) -> list[datetime]:
    """Many of them at midnight in Korea, just before it, or at the same moment as another."""
    found = []
    for _ in range(count):
        moment = begins + (ends - begins) * dice.random()
        if dice.random() < 0.3:
            moment = borders(day_of(moment))[0] + dice.choice([timedelta(0), -timedelta(microseconds=1), timedelta(microseconds=1)])
        found.append(dice.choice(found) if found and dice.random() < 0.15 else moment)
    return sorted(each for each in found if begins <= each < ends)


def row(dice: random.Random, at: datetime) -> Row:
    happened = dice.choice(["granted"] * 5 + ["revoked", "withdrawn", "expired"])
    ends_on = None if dice.random() < 0.2 else day_of(at) + dice.randint(-1, 9) * DAY
    return dice.choice(["anna", "bert", "cara"]), dice.choice([BANK, CARD]), happened, ends_on, at


def some(dice: random.Random, moments: Sequence[datetime]) -> list[Row]:
    """Now and then two of the same person at the same moment."""
    rows: list[Row] = []
    for at in moments:
        rows.append(row(dice, at))
        if dice.random() < 0.25:
            user, org_code, *_ = rows[-1]
            rows.append((user, org_code, *row(dice, at)[2:]))
    return rows


async def a_history(database: Database, dice: random.Random) -> None:
    """Sixteen days: each time some hours pass and rows come, some of them late; somebody adds up now and then, as often anew."""
    sweep, now = ConsentDays(database=database), BEGINS - 2 * DAY
    while now < BEGINS + 14 * DAY:
        before, now = now, now + dice.choice([HOUR, 9 * HOUR, DAY, 3 * DAY])
        rows = some(dice, moments(dice, before, now, dice.randint(0, 6)))
        await write(database, rows)
        if dice.random() < 0.3:
            await equal(database, now, "before anybody added up")
        await add_up(sweep, database, now)
        await equal(database, now, "after it was added up")
        if dice.random() < 0.4:
            late = some(dice, moments(dice, BEGINS - 3 * DAY, now, dice.randint(1, 3)))
            await write(database, late)
            sweep = dice.choice([sweep, ConsentDays(database=database)])
            now += EVERY
            await add_up(sweep, database, now)
            await equal(database, now, "after some came late")


async def equal(database: Database, now: datetime, when: str) -> None:
    weeks, today = Weeks(database=database), day_of(now)
    for sunday in (SUNDAY - 7 * DAY, SUNDAY, SUNDAY + 7 * DAY):
        if sunday <= today:
            week = await weeks.week(sunday, today)
            assert (week.missing, list(week.consents)) == ((), await whole(database, sunday, today)), when


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 300))])
async def test_days_say_what_the_whole_history_says(database: Database, seed: int) -> None:
    await a_history(database, random.Random(seed))


async def test_a_day_is_added_up_once_it_is_over_and_days_that_were_missed_are_caught_up(database: Database) -> None:
    sweep, midnight = ConsentDays(database=database), BEGINS + DAY
    await add_up(sweep, database, midnight)
    assert await added_up(database) == (0, None), "there is no history"
    await write(database, [("anna", BANK, "granted", None, BEGINS)])
    await add_up(sweep, database, midnight + SETTLING - WAIT - timedelta(seconds=1))
    assert await added_up(database) == (0, None)
    await add_up(sweep, database, midnight + SETTLING)
    assert await added_up(database) == (1, SUNDAY)
    await add_up(sweep, database, BEGINS + 9 * DAY + HOUR)
    assert await added_up(database) == (9, SUNDAY + 8 * DAY)


async def test_a_row_that_is_being_written_is_waited_for(database: Database) -> None:
    sweep, now = ConsentDays(database=database), BEGINS + DAY + HOUR
    await write(database, [("anna", BANK, "granted", None, BEGINS)])
    async with database.reading() as writing:
        transaction = writing.transaction()
        await transaction.start()
        await writing.execute(_ADD, "bert", BANK, "granted", None, BEGINS)
        await write(database, [("cara", BANK, "granted", None, BEGINS)])  # numbered after it, and there before it
        await sweep.sweep(now)
        await sweep.sweep(now + WAIT)
        assert await added_up(database) == (0, None)
        await transaction.commit()
    await nobody_writes(database)
    await sweep.sweep(now + WAIT)
    assert await added_up(database) == (1, SUNDAY)
    (bank,) = (await Weeks(database=database).week(SUNDAY, SUNDAY)).consents
    assert (bank.new, bank.held) == (3, 3)


async def test_any_number_may_add_up_at_once(database: Database) -> None:
    dice = random.Random(7)
    await write(database, [row(dice, at) for at in moments(dice, BEGINS, BEGINS + 14 * DAY, 60)])
    sweeps = [ConsentDays(database=database) for _ in range(4)]
    await asyncio.gather(*(add_up(sweep, database, BEGINS + 15 * DAY) for sweep in sweeps))
    await add_up(ConsentDays(database=database), database, BEGINS + 15 * DAY)  # who found another at it left it to them
    await equal(database, BEGINS + 15 * DAY, "after four at once")
    assert (await added_up(database))[1] == SUNDAY + 13 * DAY


async def test_a_clock_that_is_behind_makes_its_days_be_added_up_anew(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    sweep, now = ConsentDays(database=database), BEGINS + 5 * DAY + HOUR
    await write(database, [("anna", BANK, "granted", None, BEGINS)])
    await add_up(sweep, database, now)
    await write(database, [("anna", BANK, "revoked", None, BEGINS + DAY), ("bert", CARD, "granted", None, BEGINS - 3 * DAY)])
    await add_up(sweep, database, now + EVERY - WAIT - timedelta(seconds=1))
    assert await added_up(database) == (5, SUNDAY + 4 * DAY), "it is looked for once an hour"
    await add_up(sweep, database, now + EVERY)
    assert await added_up(database) == (8, SUNDAY + 4 * DAY)
    await equal(database, now, "after it came late")


async def test_days_that_are_too_many_to_be_read_at_once_are_said_to_be_missing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent_days, "READ_WITHIN", 0.05)
    await write(database, [("anna", BANK, "granted", None, BEGINS)])
    await add_up(ConsentDays(database=database), database, BEGINS + 2 * DAY + HOUR)
    async with database.reading() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE consent_history IN ACCESS EXCLUSIVE MODE")  # as slow as can be
        week = await Weeks(database=database).week(SUNDAY, SUNDAY + 4 * DAY)
        before = await Weeks(database=database).week(SUNDAY - 7 * DAY, SUNDAY + 4 * DAY)
        await transaction.rollback()
    assert [each.day for each in week.consents] == [SUNDAY, SUNDAY + DAY]
    assert week.missing == (SUNDAY + 2 * DAY, SUNDAY + 3 * DAY, SUNDAY + 4 * DAY)
    assert (before.consents, before.missing) == ((), ()), "a week that is over needs nothing of the history"


def test_who_was_ever_there_stays_in_each_day() -> None:
    def day(number: int, org_code: str, *counts: int) -> Consents:
        new, revoked, held = counts
        return Consents(day=SUNDAY + number * DAY, org_code=org_code, new=new, revoked=revoked, held=held)

    found: list[Any] = [*summed_up([day(0, BANK, 9, 9, 4)], [day(2, BANK, 0, 1, -1), day(2, CARD, 1, 0, 1)], SUNDAY + 3 * DAY)]
    expected = [day(1, BANK, 0, 0, 4), day(2, BANK, 0, 1, 3), day(2, CARD, 1, 0, 1), day(3, BANK, 0, 0, 3), day(3, CARD, 0, 0, 1)]
    assert sorted(found, key=lambda each: (each.day, each.org_code)) == expected
    assert list(summed_up([], [], SUNDAY)) == []


def test_a_day_in_korea_begins_at_fifteen_hours_utc() -> None:
    assert datetime(2021, 9, 4, 15, tzinfo=UTC) == BEGINS
