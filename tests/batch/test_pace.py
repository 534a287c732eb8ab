from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.batch.calendar import windows_on
from backend.batch.pace import CHUNKS_OF_MINUTE, CHUNKS_OF_SECOND, Course, Grid, Limit, course_of, minutes_of, size_of

WINDOW = windows_on(date(2026, 11, 22), ("0100:0700",))
NO_LIMIT = Limit(calls_per_second=1e9)


def sent(grid: Grid, chunks: range) -> tuple[Grid, list[int]]:
    """What leaves in these chunks."""
    shares = []
    for at in chunks:
        grid, share = grid.chunk(at)
        shares.append(share)
    return grid, shares


def test_a_million_in_360_minutes_is_even_to_the_tenth_of_a_second_and_a_million() -> None:
    course = Course(1_000_000, 0, len(minutes_of(WINDOW)))
    minutes = [course.at(minute) for minute in range(360)]
    assert (sum(minutes), set(minutes)) == (1_000_000, {2_777, 2_778})
    for size in set(minutes):
        grid, chunks = sent(Grid.of(size, NO_LIMIT.per_100ms(size)), range(CHUNKS_OF_MINUTE))
        seconds = [sum(chunks[first : first + CHUNKS_OF_SECOND]) for first in range(0, CHUNKS_OF_MINUTE, CHUNKS_OF_SECOND)]
        assert (set(chunks), set(seconds), sum(chunks), grid.left) == ({4, 5}, {46, 47}, size, 0)


@given(st.integers(0, 3_000_000), st.integers(1, 2_000), st.integers(0, 50))
def test_shares_never_drift(total: int, slots: int, first: int) -> None:
    course = Course(total, first, first + slots)
    shares = [course.at(slot) for slot in range(first, first + slots)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1
    assert all(abs(course.until(first + slot) - slot * total / slots) < 1 for slot in range(slots + 1))
    assert [(slot, share) for slot, share in enumerate(shares, first) if share] == list(course.filled())


@given(st.integers(1, 5_000), st.integers(1, 700), st.data())
def test_only_slots_that_are_not_empty_are_visited(total: int, slots: int, data: st.DataObject) -> None:
    course, begins = Course(total, 0, slots), data.draw(st.integers(0, slots))
    visited = list(course.filled(begins))
    assert visited == [(slot, course.at(slot)) for slot in range(begins, slots) if course.at(slot)]


@given(st.integers(0, 5_000), st.integers(1, 12), st.sets(st.integers(0, CHUNKS_OF_MINUTE - 1)))
def test_missed_chunks_are_spread_and_never_made_up_for_at_once(size: int, cap: int, missed: set[int]) -> None:
    grid, left = Grid.of(size, cap), size
    for at in range(CHUNKS_OF_MINUTE):
        if at not in missed:
            even = left / (CHUNKS_OF_MINUTE - at)
            grid, share = grid.chunk(at)
            assert 0 <= share <= min(cap, even + 1)
            left -= share
    assert grid.left == left
    if not missed and cap * CHUNKS_OF_MINUTE >= size + CHUNKS_OF_MINUTE:
        assert left == 0


def test_a_stall_of_ten_seconds_is_caught_up_within_the_cap() -> None:
    grid, before = sent(Grid.of(2_778, NO_LIMIT.per_100ms(2_778)), range(100))
    grid, after = sent(grid, range(200, CHUNKS_OF_MINUTE))
    assert set(after) == {5, 6}  # 4 or 5 before: the rest over 40 s
    assert sum(before) + sum(after) == 2_778


@given(st.integers(1, 3_000), st.integers(0, 600), st.integers(0, CHUNKS_OF_MINUTE), st.integers(0, CHUNKS_OF_MINUTE))
def test_what_is_made_up_for_stays_on_the_line_of_the_limit(per_minute: int, below: int, one: int, other: int) -> None:
    limit, size = Limit(calls_per_second=per_minute / 60), max(per_minute - below, 0)
    grid, shares = Grid.of(size, limit.per_100ms(size), per_minute=per_minute), [0] * CHUNKS_OF_MINUTE
    for at in range(CHUNKS_OF_MINUTE):
        if not min(one, other) <= at < max(one, other):
            grid, shares[at] = grid.chunk(at)
    for begins in range(0, CHUNKS_OF_MINUTE, 50):
        for ends in range(begins + 50, CHUNKS_OF_MINUTE + 1, 50):
            assert sum(shares[begins:ends]) <= per_minute * (ends - begins) / CHUNKS_OF_MINUTE + 2


def test_a_slow_limit_is_kept_after_a_long_stall() -> None:
    grid, after = sent(Grid.of(300, 1, per_minute=300), range(500, CHUNKS_OF_MINUTE))  # five a second
    assert 40 <= sum(after) <= 50
    assert grid.left == 300 - sum(after)


def test_what_a_cap_does_not_let_through_is_left_for_the_next_minute() -> None:
    grid, shares = sent(Grid.of(2_778, 3), range(CHUNKS_OF_MINUTE))
    assert set(shares) == {3}
    assert grid.left == 2_778 - 1_800


def test_a_course_that_is_kept_stays_and_one_that_is_not_is_laid_anew() -> None:
    course = Course(1_000, 0, 360)
    assert course.from_here(100, 1_000 - course.until(100)) is course
    anew = course.from_here(100, 900)
    assert (anew.total, anew.at(99), sum(anew.at(minute) for minute in range(100, 360))) == (900, 0, 900)
    assert course.from_here(400, 7) == Course(7, 400, 401, 360)  # too late: the caller asks whether the window is open
    assert course.from_here(360, 0) is course


def test_the_reserve_takes_what_was_missed_near_the_end_and_nothing_else() -> None:
    course = course_of(3_550, 360)
    assert (course.behind, course.last, course.at(354), course.at(355)) == (355, 360, 10, 0)
    early = course.from_here(100, 3_000)  # 450 behind, with time enough
    assert (early.behind, early.last) == (355, 360)
    late = course.from_here(354, 500)
    assert [late.at(minute) for minute in range(354, 360)] == [100, 100, 100, 100, 100, 0]
    later = late.from_here(358, 200)
    assert [later.at(minute) for minute in range(358, 361)] == [100, 100, 0]
    assert course.from_here(357, 30).until(360) == 30


def test_a_short_window_is_shared_with_its_reserve() -> None:
    assert [course_of(10, minutes).behind for minutes in (1, 2, 6, 30)] == [1, 1, 3, 25]
    assert course_of(0, 0).until(5) == 0
    with pytest.raises(ValueError, match="needs slots"):
        course_of(1, 0)


@given(st.integers(0, 3_000), st.integers(1, 60), st.sets(st.integers(0, 55)))
def test_whatever_minutes_are_missed_the_rest_leaves_before_the_finish_line(total: int, minutes: int, missed: set[int]) -> None:
    course, left = course_of(total, minutes), total
    for minute in range(minutes):
        course = course.from_here(minute, left)
        if minute not in missed or minute == minutes - 1:
            left -= course.at(minute)
    assert left == 0


def anew_each_minute(total: int, minutes: int, missed: set[int]) -> list[int]:
    """What leaves in each minute for somebody who keeps nothing but what is left."""
    left, shares = total, []
    for minute in range(minutes):
        shares.append(0 if minute in missed else course_of(total, minutes).share(minute, left))
        left -= shares[-1]
    return shares


def test_a_million_that_is_counted_anew_each_minute_keeps_its_course() -> None:
    shares = anew_each_minute(1_000_000, 360, set())
    course = course_of(1_000_000, 360)
    assert shares == [course.at(minute) for minute in range(360)]


@pytest.mark.parametrize(
    ("total", "minutes", "missed", "each_half_hour"),
    [
        (34, 155, {4, 8}, [6, 7, 7, 7, 7, 0]),
        (300, 360, {1}, [25, 25, 26, 25, 25, 26, 25, 25, 26, 25, 25, 22]),
    ],
)
def test_a_few_links_that_fell_behind_are_back_on_their_course_at_once(
    total: int, minutes: int, missed: set[int], each_half_hour: list[int]
) -> None:
    shares = anew_each_minute(total, minutes, missed)
    assert [sum(shares[first : first + 30]) for first in range(0, minutes, 30)] == each_half_hour
    assert max(shares) == 1


@given(st.integers(0, 5_000), st.integers(1, 400), st.sets(st.integers(0, 390)))
def test_whoever_lays_a_course_anew_each_minute_is_behind_by_what_was_missed_and_no_more(
    total: int, minutes: int, missed: set[int]
) -> None:
    course = course_of(total, minutes)
    missed -= {minutes - 1}
    shares, arrears = anew_each_minute(total, minutes, missed), 0
    for minute, share in enumerate(shares):
        left = total - sum(shares[:minute])
        slots = max(course.from_here(minute, left).behind - minute, 1)
        assert share <= -(-left // slots), "no burst"
        arrears += course.at(minute) if minute in missed else 0
        if minute + course.spread <= course.behind:  # later on it has the reserve for what was missed
            assert 0 <= course.until(minute + 1) - sum(shares[: minute + 1]) <= arrears
    assert sum(shares) == total


@given(st.integers(1, 5_000), st.integers(2, 400), st.data())
def test_who_is_ahead_goes_on_evenly_and_is_never_late(total: int, minutes: int, data: st.DataObject) -> None:
    course = course_of(total, minutes)
    minute = data.draw(st.integers(0, course.behind - 1))
    left = data.draw(st.integers(0, total - course.until(minute)))
    for slot in range(minute, course.behind):
        slots = course.behind - slot
        share = course.share(slot, left)
        assert left // slots <= share <= -(-left // slots)
        left -= share
        assert left <= total - course.until(slot + 1)
    assert left == 0


def test_users_come_first_and_the_batch_has_what_they_leave() -> None:
    limit = Limit(calls_per_second=50.0, user_calls=30.0, calls_per_link=4_000)
    assert limit.links_per_second == 5.0
    assert limit.per_minute == 300
    assert size_of(Course(1_000_000, 0, 360), 0, 1_000_000, limit) == 300
    assert limit.per_100ms(300) == 1
    assert Limit(calls_per_second=50.0, user_calls=60.0).per_minute == 0
    assert Limit(calls_per_second=50.0, user_calls=60.0).per_100ms(100) == 0


def test_minutes_are_whole_and_end_at_the_finish_line() -> None:
    windows = (window.until(timedelta(seconds=90)) for window in windows_on(date(2026, 11, 22), ("0030:0530", "2200:2330")))
    minutes = minutes_of([window for window in windows if window is not None])
    assert len(minutes) == 298 + 88
    assert f"{minutes[297]:%H:%M} {minutes[298]:%H:%M} {minutes[-1]:%H:%M}" == "05:27 22:00 23:27"


@pytest.mark.parametrize("wrong", [(-1, 0, 1), (1, 0, 0), (0, 1, 0)])
def test_a_course_without_slots_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="needs slots"):
        Course(*wrong)
