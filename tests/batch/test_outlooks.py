from __future__ import annotations

from datetime import date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backend.batch.calendar import days_from
from backend.batch.commands import NEVER_PLANNED, due_next, last_day
from backend.batch.outlooks import DueLinks, Known, PastDay, bounds, outlook_of, windows_left
from backend.batch.plan import plan
from backend.batch.terms import Terms, last_end, midnight
from backend.clock import KST
from backend.events import Industry
from backend.providers.contract import Provider
from tests.batch.given import CLOSURES, SUNDAY

BANK = Provider(
    org_code="A1MOABK001", name="Bank", industry=Industry.BANK, base_url="https://bank.example", transfer_windows=("0100:0700",)
)
WEEK = tuple(days_from(SUNDAY, 7))
SATURDAY = WEEK[-1]
TERMS = Terms()
A_DAY = timedelta(days=1)


def never_planned(links: int) -> Known:
    return Known(due=(DueLinks(NEVER_PLANNED, None, links),))


def test_a_provider_of_which_nothing_is_known_is_planned_by_what_is_assumed() -> None:
    outlook, error = outlook_of(BANK, never_planned(70_000), TERMS, CLOSURES, midnight(SUNDAY))
    assert (outlook.links, outlook.calls_per_link, outlook.due, error) == (70_000, 4_000, None, None)
    assert len(outlook.days) == 7
    assert outlook.user_calls[3] == max(outlook.user_calls)  # payday
    made = plan(outlook)
    assert made.shortfall is None
    assert sum(day.links for day in made.days) == 70_000
    assert made.days[3].links == min(day.links for day in made.days)


def test_what_was_measured_speaks_for_what_was_assumed() -> None:
    past = tuple(PastDay(SUNDAY - ahead * A_DAY, 1_000, None) for ahead in range(60, 0, -1))
    outlook, error = outlook_of(BANK, Known(past=past, already=7, calls_per_link=6.5), TERMS, CLOSURES, midnight(SUNDAY))
    assert outlook.calls_per_link == 6_500
    assert outlook.already == 7
    assert all(500 < calls < 2_000 for calls in outlook.user_calls)
    assert error is not None
    cheap, _ = outlook_of(BANK, Known(calls_per_link=0.2), TERMS, CLOSURES, midnight(SUNDAY))
    assert cheap.calls_per_link == 1_000


def test_today_has_what_is_left_of_its_window() -> None:
    three = datetime(2026, 11, 22, 3, tzinfo=KST)
    outlook, _ = outlook_of(BANK, Known(), TERMS, CLOSURES, three)
    assert outlook.room[0] == (4 * 3600 - 60) * 500
    assert outlook.room[1] == (6 * 3600 - 60) * 500
    assert windows_left(BANK, SUNDAY, TERMS, three + timedelta(hours=4)) == ()


def test_links_have_until_saturday_unless_they_age() -> None:
    due = (DueLinks(NEVER_PLANNED, None, 5), DueLinks(SUNDAY - A_DAY, None, 3), DueLinks(SUNDAY + 2 * A_DAY, None, 2))
    assert outlook_of(BANK, Known(due=due), TERMS, CLOSURES, midnight(SUNDAY))[0].due is None
    aging = Terms(max_age_days=7)
    assert outlook_of(BANK, Known(due=due), aging, CLOSURES, midnight(SUNDAY))[0].due == (3, 3, 5, 5, 5, 5, 10)


def test_links_that_are_too_young_wait_even_for_the_next_week() -> None:
    due = (DueLinks(SATURDAY, SUNDAY + A_DAY, 4), DueLinks(SATURDAY, SATURDAY + A_DAY, 9), DueLinks(SUNDAY, SUNDAY + 3 * A_DAY, 1))
    assert bounds(due, WEEK) == ((0, 0, 0, 1, 1, 1, 5), (0, 4, 4, 5, 5, 5, 5))


dates = st.dates(SUNDAY - 9 * A_DAY, SATURDAY)


@given(st.lists(st.tuples(dates, st.one_of(st.none(), dates), st.integers(0, 9))), st.integers(0, 6), st.booleans())
def test_bounds_never_contradict_each_other(links: list[tuple[date, date | None, int]], today: int, aging: bool) -> None:
    known = Known(due=tuple(DueLinks(*one) for one in links))
    outlook, _ = outlook_of(BANK, known, Terms(max_age_days=7 * aging), CLOSURES, midnight(WEEK[today]))
    assert sum(day.links for day in plan(outlook).days) == outlook.links == sum(count for _, _, count in links)


def test_a_link_is_due_again_by_the_next_saturday_or_before_it_is_too_old() -> None:
    assert last_day(SUNDAY) == SATURDAY
    assert due_next(SUNDAY, SUNDAY) == SATURDAY + 7 * A_DAY
    assert due_next(SUNDAY, SUNDAY, 7) == SUNDAY + 7 * A_DAY
    assert due_next(SUNDAY, SATURDAY, 7) == SATURDAY + 7 * A_DAY
    assert due_next(SUNDAY, SATURDAY, 3) == SATURDAY + 3 * A_DAY
    assert due_next(SUNDAY, SUNDAY, 3) == SATURDAY + A_DAY, "once a week: not before the next one begins"
    assert last_end(BANK, SUNDAY) == datetime(2026, 11, 28, 7, tzinfo=KST)


def test_terms_say_what_a_week_asks_for() -> None:
    now = datetime(2026, 11, 25, 2, tzinfo=KST)
    due = TERMS.due_at(now)
    assert (due.week, due.due_by, due.fresh_since, due.ripe_before) == (SUNDAY, SATURDAY, midnight(SUNDAY), None)
    asked = Terms(skips_refreshed=False, min_age_days=2).due_at(now)
    assert (asked.fresh_since, asked.ripe_before) == (None, now - 2 * A_DAY)
    [window] = TERMS.windows_on(BANK, now.date())
    assert window.begins <= now < window.ends <= now + timedelta(hours=4, minutes=59), "a later answer would come after its end"
