from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.batch.calendar import Window
from backend.batch.commands import BEGINNING, Position
from backend.batch.courses import (
    LEAD,
    Range,
    Task,
    chosen,
    is_free,
    is_last_day,
    is_outgrown,
    lag,
    minute_at,
    must_be_planned,
    size_at,
    task_of_day,
    task_of_rehearsal,
    too_late,
)
from backend.batch.pace import MINUTE, Limit, minutes_of
from backend.clock import KST

ONE = datetime(2026, 11, 23, 1, tzinfo=KST)
NIGHT = Window(ONE, ONE + timedelta(hours=6))
WIDE = Limit(calls_per_second=1e9)
SECOND = timedelta(seconds=1)


def test_a_day_goes_on_where_it_was_whoever_looks() -> None:
    task = task_of_day(1_000_000, minutes_of([NIGHT]), ONE - MINUTE)
    taken = 0
    for minute in task.minutes:
        assert minute_at(task.minutes, minute - LEAD) == minute
        taken += size_at(task, minute, taken=taken, limit=WIDE, now=minute - LEAD)
    assert taken == 1_000_000


@given(st.integers(0, 50_000), st.integers(1, 60), st.lists(st.integers(0, 9), min_size=60, max_size=60))
def test_a_course_that_was_disturbed_still_takes_all(links: int, minutes: int, lost: list[int]) -> None:
    """In minutes in which nobody is there nothing is taken; the last one is there."""
    task = task_of_day(links, minutes_of([Window(ONE, ONE + minutes * MINUTE)]), ONE)
    taken = 0
    for minute, luck in zip(task.minutes, lost, strict=False):
        if luck == 0 and minute != task.minutes[-1]:
            continue
        size = size_at(task, minute, taken=taken, limit=WIDE, now=minute)
        assert 0 <= size <= task.left(taken)
        taken += size
    assert taken == links


@given(st.integers(1, 100_000), st.floats(0, 60), st.floats(1, 1000))
def test_no_minute_is_above_what_the_provider_takes_and_a_late_one_is_no_burst(links: int, late: float, per_second: float) -> None:
    limit = Limit(calls_per_second=per_second)
    task = task_of_day(links, minutes_of([Window(ONE, ONE + 10 * MINUTE)]), ONE)
    whole = size_at(task, ONE, taken=0, limit=limit, now=ONE)
    size = size_at(task, ONE, taken=0, limit=limit, now=ONE + late * SECOND)
    assert size <= whole <= limit.per_minute
    assert late <= 1 or size <= (60 - late) * 10 * limit.per_100ms(whole)


@pytest.mark.parametrize(("calls", "cost"), [(0.05, 4_000), (1.0, 90_000), (0.3, 7_000)])
def test_a_provider_that_takes_less_than_a_link_a_minute_is_read_all_the_same(calls: float, cost: int) -> None:
    """Rounded down each minute it were never asked, and its plan were one that nobody keeps."""
    limit, minutes = Limit(calls_per_second=calls, calls_per_link=cost), minutes_of([NIGHT])
    links = int(len(minutes) * 60 * calls * 1000 / cost)
    task, taken, line = task_of_day(links, minutes, ONE), 0, 0.0
    for minute in task.minutes:
        taken += size_at(task, minute, taken=taken, limit=limit, now=minute)
        line += limit.links_per_minute
        assert taken <= line + 1
    assert links - 1 <= taken <= links
    assert too_late(task, taken=0, per_minute=limit.links_per_minute, now=ONE - SECOND) <= 1


def test_a_plan_made_within_a_window_has_what_is_left_of_its_minutes() -> None:
    task = task_of_day(100, minutes_of([NIGHT]), ONE + 90 * SECOND)
    assert task.minutes[0] == ONE + 2 * MINUTE
    assert task.minutes[-1] == NIGHT.ends - MINUTE
    assert task_of_day(100, minutes_of([NIGHT]), NIGHT.ends).minutes == ()
    assert task_of_day(100, minutes_of([]), ONE).ends is None


def test_a_rehearsal_begins_in_the_minute_in_which_its_links_are_counted() -> None:
    task = task_of_rehearsal(20_000, Window(ONE, ONE + 3 * MINUTE), ONE + 2 * SECOND)
    sizes, taken = [], 0
    for minute in task.minutes:
        sizes.append(size_at(task, minute, taken=taken, limit=WIDE, now=minute))
        taken += sizes[-1]
    assert sizes == [10_000, 10_000, 0]  # the last one is for what was missed
    assert task.ends == ONE + 2 * MINUTE
    assert size_at(task, task.minutes[2], taken=19_940, limit=WIDE, now=task.minutes[2]) == 60


@pytest.mark.parametrize(
    ("now", "expected"),
    [(-5.1, None), (-5.0, 0), (0.0, 0), (54.9, 0), (55.0, 1), (60.0, 1), (119.9, 1), (120.0, None)],
)
def test_a_minutes_command_is_made_before_it_begins_or_while_it_runs(now: float, expected: int | None) -> None:
    minutes = [ONE, ONE + MINUTE]
    assert minute_at(minutes, ONE + now * SECOND) == (None if expected is None else minutes[expected])


def test_no_command_runs_beside_another() -> None:
    assert is_free(ONE, None)
    assert is_free(ONE, ONE - MINUTE)
    assert not is_free(ONE, ONE)
    assert not is_free(ONE, ONE - 20 * SECOND)
    assert not is_free(ONE, ONE + 60 * MINUTE), "whose clock is behind makes nothing"


def test_a_new_pass_begins_where_it_finds_more() -> None:
    ahead, anew = (
        Range(Position(date(2026, 11, 28), 7), Position(date(2026, 11, 28), 9), 2),
        Range(BEGINNING, Position(date(2026, 11, 28), 4), 3),
    )
    assert chosen(ahead, anew) is anew
    assert chosen(anew, ahead) is anew
    assert chosen(ahead, None) is ahead
    assert chosen(None, anew) is anew
    assert chosen(None, None) is None
    assert chosen(ahead, Range(BEGINNING, ahead.limit, 2)) is ahead


def test_what_no_minute_is_left_for_is_too_late() -> None:
    task = task_of_day(1_000, minutes_of([Window(ONE, ONE + 10 * MINUTE)]), ONE)
    assert too_late(task, taken=0, per_minute=100, now=ONE - SECOND) == 0
    assert too_late(task, taken=0, per_minute=100, now=ONE) == 100
    assert too_late(task, taken=500, per_minute=100, now=ONE + 7 * MINUTE) == 300
    assert too_late(task, taken=0, per_minute=100, now=ONE + 10 * MINUTE) == 1_000


def test_a_plan_is_made_once_a_day_and_when_it_is_asked_for() -> None:
    assert must_be_planned(None, is_stale=False, now=ONE)
    assert must_be_planned(ONE, is_stale=True, now=ONE)
    assert not must_be_planned(ONE, is_stale=False, now=ONE + timedelta(hours=22))
    assert must_be_planned(ONE, is_stale=False, now=ONE + timedelta(hours=23))


def test_only_saturday_is_the_last_day() -> None:
    assert [is_last_day(date(2026, 11, 22) + timedelta(days=ahead)) for ahead in range(7)] == [False] * 6 + [True]


def test_a_lag_is_told_in_seconds_of_the_course() -> None:
    task = Task(links=3_550, minutes=tuple(ONE + number * MINUTE for number in range(360)), since=ONE)  # ten a minute, and a reserve
    assert lag(task, taken=0, now=ONE) == 0
    assert lag(task, taken=0, now=ONE + 90 * SECOND) == pytest.approx(90)
    assert lag(task, taken=15, now=ONE + 90 * SECOND) == 0
    assert lag(task, taken=16, now=ONE + 90 * SECOND) == 0
    assert lag(task, taken=0, now=ONE + timedelta(hours=6)) == 0
    assert lag(task_of_day(0, minutes_of([NIGHT]), ONE), taken=0, now=ONE) == 0


def test_a_plan_is_outgrown_by_links_that_it_does_not_know() -> None:
    assert not is_outgrown(100, taken=20, due=80)
    assert not is_outgrown(100, taken=120, due=0)
    assert is_outgrown(100, taken=20, due=81)
    assert is_outgrown(0, taken=0, due=1)
