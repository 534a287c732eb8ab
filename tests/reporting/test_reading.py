"""What the sums answer: by institution, API and hour, of days in Korea, and of the same time a week before."""

from __future__ import annotations

from datetime import timedelta
from statistics import fmean, pstdev

from backend.coordinator.stream import MemoryStream
from backend.providers.circuits import Report
from backend.reporting.figures import Sums, borders
from backend.reporting.reading import Failed, Losses, OfProvider, Traffic, Users
from backend.storage.database import Database
from tests.reporting.given import BANK, CARD, CLOCK, NOW, NOW_MS, TODAY, Call, everything, recording, report, tell

HOUR = 3_600_000
WEEK = timedelta(days=7)


async def given(database: Database, *reports: Report) -> Traffic:
    stream = MemoryStream(CLOCK)
    await tell(stream, *reports)
    await everything(recording(stream, database))
    return Traffic(database=database)


def calls_of(found: tuple[OfProvider, ...]) -> dict[tuple[str, bool], int]:
    return {(each.org_code, each.scheduled): each.sums.calls for each in found}


async def test_sums_of_a_day_by_institution_api_and_hour(database: Database) -> None:
    times = [3, 40, 700, 21_000]
    reads = await given(
        database,
        report("n", 1, *(Call(took_ms=took) for took in times), Call(cancelled=True)),
        report("n", 2, Call(api_code="BA02", reason="50001", began_ms=NOW_MS - HOUR), Call(scheduled=True), Call(org_code=CARD, slow=True)),
    )
    by_person, by_schedule, card = await reads.by_provider(TODAY)
    assert [(each.org_code, each.scheduled) for each in (by_person, by_schedule, card)] == [(BANK, False), (BANK, True), (CARD, False)]
    assert (by_person.sums.calls, by_person.sums.successes, by_person.sums.cancelled, by_person.sums.failures) == (6, 4, 1, 1)
    assert (by_person.sums.mean_ms, by_person.sums.deviation_ms) == (fmean([*times, 20]), pstdev([*times, 20]))
    assert sum(by_person.sums.histogram) == 5
    assert card.sums == Sums(calls=1, successes=1, slow=1, ms=20, ms_squared=400, histogram=(0, 0, 1) + (0,) * 10)
    apis = [(each.org_code, each.api_code, each.scheduled, each.sums.calls) for each in await reads.by_api(TODAY)]
    assert apis == [(BANK, "BA01", False, 5), (BANK, "BA01", True, 1), (BANK, "BA02", False, 1), (CARD, "BA01", False, 1)]
    hours = [(each.hour - NOW.replace(minute=0), each.org_code, each.sums.calls) for each in await reads.by_hour(TODAY)]
    assert hours == [
        (timedelta(hours=-1), BANK, 1),
        (timedelta(0), BANK, 5),
        (timedelta(0), BANK, 1),
        (timedelta(0), CARD, 1),
    ]
    assert await reads.failures(TODAY) == (Failed(BANK, False, "50001", 1),)


async def test_a_call_belongs_to_the_day_in_korea_on_which_it_began(database: Database) -> None:
    begins, ends = (round(moment.timestamp() * 1000) for moment in borders(TODAY))
    moments = [begins - 1, begins, ends - 1, ends]
    reads = await given(database, *(report("n", number, Call(began_ms=at, user="a" * 22)) for number, at in enumerate(moments, 1)))
    days = [TODAY - timedelta(days=1), TODAY, TODAY + timedelta(days=1)]
    assert [calls_of(await reads.by_provider(day)) for day in days] == [{(BANK, False): 1}, {(BANK, False): 2}, {(BANK, False): 1}]
    assert [await reads.users(day) for day in days] == [(Users(BANK, False, 1),)] * 3


async def test_today_is_compared_with_the_hours_that_were_over_by_now_a_week_before(database: Database) -> None:
    week = 7 * 24 * HOUR
    reads = await given(
        database,
        report("n", 1, Call(began_ms=NOW_MS - HOUR), Call(began_ms=NOW_MS - HOUR), Call(began_ms=NOW_MS)),  # the last: its hour is not over
        report("n", 2, Call(began_ms=NOW_MS - HOUR - week), Call(began_ms=NOW_MS - week), Call(began_ms=NOW_MS + 5 * HOUR - week)),
    )
    compared = await reads.compared(NOW)
    assert (compared.day, compared.until) == (TODAY, NOW.replace(minute=0))
    assert (calls_of(compared.now), calls_of(compared.before)) == ({(BANK, False): 2}, {(BANK, False): 1})
    assert calls_of(await reads.by_provider(TODAY - WEEK)) == {(BANK, False): 3}


async def test_in_the_first_hour_of_a_day_there_is_nothing_to_compare(database: Database) -> None:
    begins, _ = borders(TODAY)
    reads = await given(database, report("n", 1, Call(began_ms=round(begins.timestamp() * 1000))))
    compared = await reads.compared(begins + timedelta(minutes=59))
    assert (compared.day, compared.now, compared.before) == (TODAY, (), ())


async def test_users_are_counted_once_at_each_institution(database: Database) -> None:
    reads = await given(
        database,
        report("n", 1, Call(user="a" * 22), Call(user="a" * 22, org_code=CARD), Call(user="b" * 22), Call(user="c" * 22, scheduled=True)),
    )
    assert await reads.users(TODAY) == (Users(BANK, False, 2), Users(BANK, True, 1), Users(CARD, False, 1))


async def test_what_is_in_no_sum_is_told(database: Database) -> None:
    stream, reads = MemoryStream(CLOCK), Traffic(database=database)

    async def losses_after(*reports: Report) -> Losses:
        await tell(stream, *reports)
        await everything(recording(stream, database))
        return await reads.losses()

    assert await losses_after(report("n", 1, Call()), report("n", 2, Call(), uncounted=3), report("m", 1)) == Losses(reports=0, calls=3)
    assert await losses_after(report("n", 5, Call()), report("m", 2)) == Losses(reports=2, calls=3)
    assert await losses_after(report("n", 4), report("n", 3)) == Losses(reports=0, calls=3)


async def test_no_call_is_no_row(database: Database) -> None:
    reads = Traffic(database=database)
    assert (await reads.by_provider(TODAY), await reads.users(TODAY), await reads.losses()) == ((), (), Losses(0, 0))
