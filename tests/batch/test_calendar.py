from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from backend.batch.calendar import (
    Closures,
    Mark,
    Override,
    Said,
    day_of,
    in_korea,
    left_on,
    overrides,
    payday,
    rest_of_week,
    sunday_of,
    windows_on,
)
from backend.batch.closures import closures_of
from backend.clock import KST

CLOSURES = closures_of([2026, 2027])


def marks(year: int, month: int, day: int, closures: Closures = CLOSURES) -> set[Mark]:
    return set(day_of(date(year, month, day), closures).marks)


@pytest.mark.parametrize(
    ("month", "paid_on"),
    [
        (11, date(2026, 11, 25)),  # a Wednesday
        (4, date(2026, 4, 24)),  # the 25th is a Saturday
        (10, date(2026, 10, 23)),  # a Sunday
        (5, date(2026, 5, 22)),  # a holiday, behind a weekend
        (9, date(2026, 9, 23)),  # Chuseok, and the day before it
        (12, date(2026, 12, 24)),  # Christmas
    ],
)
def test_payday_moves_before_holidays_and_weekends(month: int, paid_on: date) -> None:
    assert payday(2026, month, CLOSURES) == paid_on
    assert Mark.PAYDAY in day_of(paid_on, CLOSURES).marks
    assert paid_on.day == 25 or Mark.PAYDAY not in marks(2026, month, 25)


def test_the_ends_of_months_are_marked() -> None:
    assert marks(2026, 2, 28) == {Mark.MONTH_END}
    assert Mark.MONTH_START in marks(2026, 3, 1)
    assert Mark.MONTH_END in marks(2028, 2, 29, Closures())


def test_the_exchange_rests_on_weekends_holidays_and_its_own_days() -> None:
    assert Mark.TRADING in marks(2026, 11, 24)
    assert Mark.TRADING not in marks(2026, 11, 28)  # Saturday
    assert Mark.TRADING not in marks(2026, 9, 24)  # Chuseok
    assert marks(2026, 12, 31) == {Mark.MONTH_END}  # banks work, the exchange does not


def test_what_operators_say_comes_before_the_lists() -> None:
    said = overrides(["2026-11-25 = holiday", "2026-11-24=no_trading", "2026-12-25=working"])
    closures = CLOSURES.but(said)
    assert payday(2026, 11, closures) == date(2026, 11, 24)
    assert marks(2026, 11, 24, closures) == {Mark.PAYDAY}
    assert marks(2026, 12, 25, closures) == {Mark.PAYDAY, Mark.TRADING}
    assert CLOSURES.but([Override(date(2026, 11, 25), Said.HOLIDAY), Override(date(2026, 11, 25), Said.WORKING)]) == CLOSURES


@pytest.mark.parametrize("line", ["2026-13-01=holiday", "2026-11-25", "2026-11-25=off", ""])
def test_an_override_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=f"`{line}`"):
        overrides([line])


def test_a_week_goes_from_sunday_to_saturday_in_korea() -> None:
    sunday = date(2026, 11, 22)
    assert {sunday_of(sunday + timedelta(days=ahead)) for ahead in range(7)} == {sunday}
    assert sunday_of(date(2026, 11, 21)) == date(2026, 11, 15)
    assert [len(rest_of_week(sunday + timedelta(days=ahead))) for ahead in range(7)] == [7, 6, 5, 4, 3, 2, 1]
    assert in_korea(datetime(2026, 11, 21, 15, 0, tzinfo=UTC)) == sunday


def test_windows_are_moments_in_their_order_and_those_that_touch_are_one() -> None:
    first, second = windows_on(date(2026, 11, 22), ("2200:2400", "0000:0100", "0100:0700"))
    assert (first.begins, first.ends) == (datetime(2026, 11, 22, 0, 0, tzinfo=KST), datetime(2026, 11, 22, 7, 0, tzinfo=KST))
    assert (second.begins, second.ends) == (datetime(2026, 11, 22, 22, 0, tzinfo=KST), datetime(2026, 11, 23, 0, 0, tzinfo=KST))
    assert [window.seconds for window in windows_on(date(2026, 11, 22), ())] == [86_400]


def test_what_is_left_of_a_day_ends_at_the_finish_line() -> None:
    on, np_times, finish = date(2026, 11, 22), ("0030:0530", "2200:2330"), timedelta(minutes=1)

    def left(*at: int) -> list[tuple[str, str]]:
        windows = left_on(on, np_times, now=datetime(*at, tzinfo=KST), finish=finish)
        return [(f"{window.begins:%H:%M}", f"{window.ends:%H:%M}") for window in windows]

    assert left(2026, 11, 21, 20, 0) == [("00:30", "05:29"), ("22:00", "23:29")]
    assert left(2026, 11, 22, 5, 0) == [("05:00", "05:29"), ("22:00", "23:29")]
    assert left(2026, 11, 22, 5, 29) == [("22:00", "23:29")]
    assert left(2026, 11, 22, 23, 29) == []
    assert left_on(on, ("0030:0100",), now=datetime(2026, 11, 21, tzinfo=KST), finish=timedelta(hours=1)) == ()
