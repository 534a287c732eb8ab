from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backend.batch.calendar import Window
from backend.batch.courses import task_of_day, task_of_rehearsal
from backend.batch.overview import (
    FEW,
    MOST_COUNTED,
    OfProvider,
    due_now,
    explained,
    finish,
    most_counted,
    pace,
    planned_today,
    recent,
    remaining,
    shown,
)
from backend.batch.pace import MINUTE, minutes_of
from backend.batch.terms import Terms, midnight
from backend.clock import KST
from tests.batch.given import CLOSURES, SUNDAY
from tests.batch.rows import provider

TERMS = Terms()
ONE = datetime(2026, 11, 22, 1, tzinfo=KST)
SECOND, A_DAY = timedelta(seconds=1), timedelta(days=1)
WINDOWS = TERMS.windows_on(provider(), SUNDAY)
PLAN = {"links": 9_000, "left_over": 0, "impossible_on": None, "missing": 0, "calls_per_link": 4000, "gap": 0, "forecast_error": None}


def day(ahead: int, links: int) -> dict[str, Any]:
    rest = {"batch_calls": links * 4, "user_calls": 10, "already": 0, "room": 10**6, "reason": "level"}
    return {"day": SUNDAY + ahead * A_DAY, "links": links, **rest}


def of(**more: Any) -> OfProvider:
    given: dict[str, Any] = {
        "plan": PLAN,
        "days": [day(0, 3_540), day(1, 5_460)],
        "remains": 9_000,
        "counted": FEW + 1,
        "is_exact": False,
        "task": task_of_day(3_540, minutes_of(WINDOWS), ONE),
    }
    return OfProvider(provider=provider(), **given | more)


def test_a_provider_without_anything_is_shown_as_such() -> None:
    assert shown(OfProvider(provider=provider()), TERMS, ONE) == {
        "org_code": "A1MOABK001",
        "name": "A1MOABK001",
        "due": 0,
        "done": 0,
        "failed": 0,
        "skipped": 0,
        "unknown": 0,
        "planned_today": 0,
        "pace_per_minute": 0,
        "eased": False,
        "lag_seconds": 0.0,
        "paused": False,
        "rehearsal": False,
    }


def test_what_is_due_is_exact_while_it_is_little() -> None:
    assert due_now(of(counted=FEW, is_exact=True)) == FEW
    assert due_now(of(counted=5_000, is_exact=True)) == 5_000
    assert due_now(of(remains=8_000)) == 8_000
    assert due_now(of(remains=10)) == FEW + 1
    assert due_now(of(remains=8_000, task=task_of_rehearsal(9_000, WINDOWS[0], ONE))) == 8_000, "links of a minute may be in neither"


def test_what_remains_of_a_plan_is_without_what_has_gone_since() -> None:
    assert remaining(PLAN, {"gone": 1_000}) == 8_000
    assert remaining(PLAN, None) == 9_000
    assert remaining(PLAN, {"gone": 10_000}) == 0
    assert remaining(None, None) == 0


def test_those_with_little_left_are_counted_and_not_more_than_a_look_may_cost() -> None:
    half, few = MOST_COUNTED // 2, FEW + 1
    most = most_counted({"large": 1_000_000, "little": 300, "half": half, "other": half, "none": 0})
    assert most == {"large": few, "little": 300 + half - 300 + few, "half": half + half - 300 + few, "other": few, "none": half - 300 + few}
    assert most_counted({"new": 0, "other": 0}) == {"new": MOST_COUNTED + few, "other": MOST_COUNTED + few}, "in no plan yet"


def test_what_is_planned_today_means_the_same_during_a_rehearsal_whose_links_are_named_apart() -> None:
    sums = {"taken": 1_000, "gone": 1_000, "recorded": 990, "skipped": 8}
    assert planned_today(of(sums=sums), ONE) == 3_540
    assert planned_today(of(days=[]), ONE) == 0
    told = shown(of(sums=sums, task=task_of_rehearsal(700, WINDOWS[0], ONE)), TERMS, ONE)
    assert (told["planned_today"], told["rehearsal"], told["rehearsal_links"]) == (3_540, True, 700)
    assert "rehearsal_links" not in shown(of(sums=sums), TERMS, ONE)


def test_who_has_nothing_to_do_is_not_behind() -> None:
    late = ONE + 2 * MINUTE
    assert shown(of(taken=0), TERMS, late)["lag_seconds"] > 60
    assert shown(of(taken=0, counted=0, is_exact=True), TERMS, late)["lag_seconds"] == 0.0


@pytest.mark.parametrize(("beat", "expected"), [(None, 600), (4, 600), (30, 500), (70, 250)])
def test_a_pace_is_that_of_the_minute(beat: int | None, expected: int) -> None:
    latest = {"minute": ONE, "size": 600, "sent": 240, "skipped": 10, "beat_at": None if beat is None else ONE + beat * SECOND}
    assert pace(latest, ONE + 59 * SECOND) == expected
    assert pace(latest, ONE + MINUTE) == 0
    assert pace(None, ONE) == 0


def test_a_week_ends_when_the_last_planned_day_has_gone() -> None:
    monday = finish(of(), TERMS, ONE)
    assert monday is not None
    assert ONE + A_DAY + timedelta(hours=5) < monday < ONE + A_DAY + timedelta(hours=6)
    today = finish(of(days=[day(0, 3_540)]), TERMS, ONE)
    assert today == WINDOWS[0].begins + 354 * MINUTE
    assert finish(of(days=[day(0, 3_540)]), TERMS, today + SECOND) == WINDOWS[0].ends, "its reserve"
    assert finish(of(days=[day(0, 3_540)]), TERMS, WINDOWS[0].ends) is None


def test_a_week_that_is_not_done_has_no_end() -> None:
    assert finish(of(plan={**PLAN, "left_over": 1}), TERMS, ONE) is None
    assert finish(of(), Terms(automatic=False), ONE) is None
    assert finish(of(days=[]), TERMS, ONE) is None
    assert "finish_estimate" not in shown(of(hold={"reason": "operator", "until": None}), TERMS, ONE)
    assert "finish_estimate" not in shown(of(counted=0, is_exact=True), TERMS, ONE)
    assert "finish_estimate" in shown(of(), TERMS, ONE)


def test_while_a_provider_asked_for_less_the_end_is_told_from_what_left_lately() -> None:
    now = ONE + timedelta(hours=1, seconds=30)
    latest = {"minute": ONE + 60 * MINUTE, "size": 10, "sent": 4, "skipped": 0, "beat_at": now, "eased": True}
    today = {"days": [day(0, 3_540)], "taken": 600, "latest": latest}
    planned = finish(of(**today | {"latest": latest | {"eased": False}}), TERMS, now)
    assert planned == WINDOWS[0].begins + 354 * MINUTE
    assert finish(of(**today, lately=26), TERMS, now) == planned, "no sooner than its course"
    assert recent(task_of_day(3_540, minutes_of(WINDOWS), ONE), now) == ONE + 58 * MINUTE
    later = finish(of(**today | {"taken": 690}, lately=24), TERMS, now)
    assert later == now + 2_850 / 24 * timedelta(minutes=2.5)
    assert finish(of(**today, lately=12), TERMS, now) is None, "not in this window"
    assert finish(of(**today, lately=0), TERMS, now) is None
    told = shown(of(**today, lately=12), TERMS, now)
    assert (told["eased"], told["pace_per_minute"], "finish_estimate" in told) == (True, 8, False)
    assert not shown(of(**today), TERMS, now + MINUTE)["eased"], "that minute is over"


def test_a_rehearsal_ends_with_its_course() -> None:
    task = task_of_rehearsal(700, Window(ONE, ONE + 3 * MINUTE), ONE)
    assert finish(of(task=task), Terms(automatic=False), ONE) == ONE + 2 * MINUTE
    assert shown(of(task=task), TERMS, ONE)["rehearsal"]


def test_a_plan_is_explained_in_words() -> None:
    row = {**PLAN, "planned_at": midnight(SUNDAY), "forecast_error": 0.12341}
    told = explained(provider(), row, [day(0, 3_540), day(3, 5_460)], CLOSURES)
    assert (told["calls_per_link"], told["forecast_error"]) == (4.0, 0.1234)
    assert told["days"][1]["because"].startswith("Wednesday 2026-11-25 (payday, a trading day): 5,460 links")
    assert "impossible" not in told
    short = explained(provider(), {**row, "impossible_on": SUNDAY, "missing": 5, "left_over": 3}, [day(0, 1)], CLOSURES)
    assert "impossible from Sunday 2026-11-22 on: 5 links" in short["impossible"]
