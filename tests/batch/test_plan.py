from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.batch.calendar import Window, windows_on
from backend.batch.plan import Reason, Shortfall, plan, room
from backend.batch.words import because, missing
from backend.clock import KST
from tests.batch.given import SUNDAY, outlook

USERS = (900_000, 1_250_000, 1_150_000, 2_600_000, 1_300_000, 1_200_000, 850_000)  # payday on Wednesday


def test_a_week_is_flat_where_users_leave_room_for_it() -> None:
    made = plan(outlook(USERS, links=2_500_000, calls_per_link=4_000))
    assert sum(day.links for day in made.days) == 2_500_000
    assert max(day.calls for day in made.days) - min(day.calls for day in made.days) <= 1
    assert (made.gap, made.shortfall) == (0, None)
    assert {day.reason for day in made.days} == {Reason.LEVEL}


def test_a_payday_that_is_higher_than_all_gets_nothing() -> None:
    made = plan(outlook(USERS, links=1_000_000, calls_per_link=2_000))
    payday = made.days[3]
    assert (payday.links, payday.reason) == (0, Reason.BUSY)
    assert made.peak == 2_600_000
    assert len({day.calls for day in made.days if day is not payday}) <= 2
    assert made.on(SUNDAY) is made.days[0]
    assert made.on(SUNDAY - timedelta(days=1)) is None


def test_a_plan_made_again_from_what_remains_goes_on_as_it_was() -> None:
    first = plan(outlook(USERS, links=2_000_000))
    today = first.days[0]
    half = today.links // 2
    again = plan(outlook(USERS, links=2_000_000 - half, already=half))
    assert [day.links for day in again.days] == [today.links - half, *(day.links for day in first.days[1:])]
    assert again.peak == first.peak


def test_a_day_that_the_batch_itself_has_raised_is_not_said_to_be_the_users() -> None:
    made = plan(outlook((1_000, 2_000, 100), links=3_000, already=9_000))
    assert [(day.links > 0, day.reason) for day in made.days] == [(False, Reason.DONE), (True, Reason.LEVEL), (True, Reason.LEVEL)]
    assert "what the batch did earlier on this day reaches the height of the other days" in because(made, SUNDAY)
    users = plan(outlook((9_000, 2_000, 100), links=3_000, already=10))
    assert users.days[0].reason is Reason.BUSY, "users alone"


def test_a_week_with_nothing_left_says_so() -> None:
    made = plan(outlook((1_000, 2_000, 0), links=0, already=9_000, room=(10, 0, 10)))
    assert [day.reason for day in made.days] == [Reason.NOTHING, Reason.CLOSED, Reason.NOTHING]
    assert "0 links, 0 calls: no link is left for it" in because(made, SUNDAY)


def test_a_window_that_holds_no_more_and_a_day_without_one_are_said() -> None:
    made = plan(outlook((100, 100, 100), links=900, room=(50, 0, 10_000)))
    assert [(day.links, day.reason) for day in made.days] == [(50, Reason.FULL), (0, Reason.CLOSED), (850, Reason.LEVEL)]


def test_what_is_due_and_what_may_not_go_yet_are_said() -> None:
    due = plan(outlook((0, 0, 0), links=90, due=(60, 60, 90)))
    assert [(day.links, day.reason) for day in due.days] == [(60, Reason.DUE), (15, Reason.LEVEL), (15, Reason.LEVEL)]
    waiting = plan(outlook((0, 0, 0), links=90, ready=(10, 20, 90)))
    assert [(day.links, day.reason) for day in waiting.days] == [(10, Reason.WAITING), (10, Reason.WAITING), (70, Reason.LEVEL)]


def test_days_that_differ_by_one_call_are_level() -> None:
    made = plan(outlook((0, 0, 0), links=4))
    assert [(day.links, day.reason) for day in made.days] == [(2, Reason.LEVEL), (1, Reason.LEVEL), (1, Reason.LEVEL)]


def test_an_impossible_week_names_the_first_day_and_how_many_are_missing() -> None:
    made = plan(outlook((0, 0, 0), links=100, calls_per_link=4_000, room=(100, 40, 100), due=(30, 50, 100)))
    assert made.shortfall == Shortfall(SUNDAY, 5, 40)
    assert [day.links for day in made.days] == [25, 10, 25]
    said = missing(made)
    assert said is not None
    assert "impossible from Sunday 2026-11-22 on: 5 links" in said
    assert "40 of 100" in said
    assert missing(plan(outlook((0,), links=1))) is None


def test_why_so_many_on_a_day_is_a_sentence() -> None:
    made = plan(outlook(USERS, links=1_000_000, calls_per_link=2_000))
    assert because(made, date(2026, 11, 25)) == (
        "Wednesday 2026-11-25 (payday, a trading day): 0 links, 0 calls: users alone reach the height of the other days; "
        "users are expected to make 2,600,000 calls, 97 % more than on the average day"
    )
    assert "fewer than on the average day" in because(made, SUNDAY)
    assert because(plan(outlook((7, 7), links=2)), SUNDAY).endswith("7 calls, as on the average day")
    assert because(plan(outlook((0, 0), links=2)), SUNDAY).endswith("users are expected to make no calls")
    with pytest.raises(KeyError):
        because(made, date(2026, 11, 29))


def test_a_week_without_anything_is_flat() -> None:
    made = plan(outlook((0,) * 7, links=0))
    assert (made.peak, made.peak_to_mean) == (0, 1.0)


def test_room_is_what_the_provider_takes_in_its_windows_less_what_users_need_there() -> None:
    windows = windows_on(SUNDAY, ("0030:0530", "2200:2330"))
    assert room(windows, 10.0, user_calls=4_000) == 6.5 * 3600 * 10 - 4_000
    assert room(windows, 0.1, user_calls=4_000) == 0
    assert room((), 10.0, user_calls=0) == 0
    assert room([Window(datetime(2026, 11, 22, tzinfo=KST), datetime(2026, 11, 22, 0, 1, tzinfo=KST))], 0.05, user_calls=0) == 3


@pytest.mark.parametrize("wrong", [{"calls_per_link": 999}, {"room": (1, 2)}])
def test_an_outlook_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a link costs|one number for each"):
        outlook((1, 2, 3), links=1, **wrong)


@given(
    st.lists(st.integers(0, 1_000_000), min_size=1, max_size=7),
    st.integers(0, 1_000_000),
    st.integers(1_000, 40_000),
    st.integers(0, 100_000),
)
def test_every_link_is_planned_once_and_no_peak_is_lower(users: list[int], links: int, cost: int, already: int) -> None:
    made = plan(outlook(users, links, calls_per_link=cost, already=already))
    assert sum(day.links for day in made.days) == links
    assert all(day.links >= 0 for day in made.days)
    assert sum(day.batch_calls for day in made.days) == -(-links * cost // 1000)
    assert made.gap == 0


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=7), st.integers(1_000, 9_000))
def test_bounds_in_links_are_kept_whatever_a_link_costs(each: list[tuple[int, int, int]], cost: int) -> None:
    users, steps, ahead = zip(*each, strict=True)
    due = tuple(sum(steps[: day + 1]) for day in range(len(steps)))
    ready = tuple(max(must + more for must, more in zip(due[: day + 1], ahead, strict=False)) for day in range(len(due)))
    made = plan(outlook(users, due[-1], calls_per_link=cost, due=due, ready=ready))
    by_then = [sum(day.links for day in made.days[: last + 1]) for last in range(len(users))]
    assert all(must <= done <= may for must, done, may in zip(due, by_then, ready, strict=True))
