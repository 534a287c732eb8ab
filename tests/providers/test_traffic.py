"""Roll-ups: what is counted where, and that increments add up in any order."""

from __future__ import annotations

from datetime import datetime
from statistics import pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.clock import KST
from backend.providers import traffic
from backend.providers.traffic import BOUNDS_MS, HOUR_MS, Rollup, Tally, day_of, merged, user_key
from tests.providers.given import BANK, NOW

NOW_MS = int(NOW.timestamp() * 1000)


def add(tally: Tally, **more: Any) -> None:
    usual = {"org_code": BANK, "api_code": "BA01", "scheduled": False, "began_ms": NOW_MS, "user": None}
    tally.add(**{**usual, "took_ms": 20, "reason": None, "slow": False, **more})


def test_a_roll_up_tells_calls_ends_times_and_their_spread() -> None:
    tally = Tally()
    times = [3, 5, 6, 180, 2_500]
    for took_ms in times:
        add(tally, took_ms=took_ms, slow=took_ms > 2_000)
    add(tally, took_ms=40, reason="50001")
    add(tally, took_ms=40, reason="50001")
    add(tally, took_ms=90_000, reason="deadline")
    tally.add_cancelled(BANK, "BA01", False, NOW_MS, None)
    ((rollup,), seen, uncounted) = tally.taken()
    assert (rollup.calls, rollup.successes, rollup.failures, rollup.cancelled) == (9, 5, {"50001": 2, "deadline": 1}, 1)
    assert rollup.calls == rollup.successes + sum(rollup.failures.values()) + rollup.cancelled
    assert (rollup.slow, seen, uncounted) == (1, (), 0)
    assert rollup.histogram == (2, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 1)
    assert len(rollup.histogram) == len(BOUNDS_MS) + 1
    took = [*times, 40, 40, 90_000]
    assert rollup.ms == sum(took)
    ended = len(took)
    assert (rollup.ms_squared / ended - (rollup.ms / ended) ** 2) ** 0.5 == pytest.approx(pstdev(took))
    assert not tally


def test_institutions_apis_askers_and_hours_are_told_apart() -> None:
    tally = Tally()
    for more in ({}, {"org_code": "A1MOABK002"}, {"api_code": "BA02"}, {"scheduled": True}, {"began_ms": NOW_MS + HOUR_MS}):
        add(tally, **more)
    rollups, _, _ = tally.taken()
    assert len(rollups) == 5
    assert all(each.hour % HOUR_MS == 0 and each.calls == 1 for each in rollups)


def test_an_hour_and_a_day_are_those_of_korea() -> None:
    last = datetime(2026, 11, 22, 23, 59, 59, 999_000, KST)
    first = datetime(2026, 11, 23, 0, 0, tzinfo=KST)
    before, after = (int(moment.timestamp() * 1000) for moment in (last, first))
    assert after - before == 1
    assert day_of(after) - day_of(before) == 1
    assert day_of(before) == (last.date() - datetime(1970, 1, 1, tzinfo=KST).date()).days
    tally = Tally()
    add(tally, began_ms=after)
    ((rollup,), _, _) = tally.taken()
    assert rollup.hour == after


def test_users_are_told_once_per_institution_asker_and_day() -> None:
    tally = Tally()
    for user in ("a", "b", "a", None):
        add(tally, user=user)
        add(tally, user=user, api_code="BA02")
    tally.add_cancelled(BANK, "BA01", False, NOW_MS, "c")
    add(tally, user="a", began_ms=NOW_MS + 24 * HOUR_MS)
    add(tally, user="b", scheduled=True)
    _, seen, _ = tally.taken()
    told = sorted((each.scheduled, each.day - day_of(NOW_MS), sorted(each.users)) for each in seen)
    assert told == [(False, 0, ["a", "b", "c"]), (False, 1, ["a"]), (True, 0, ["b"])]


def test_a_user_is_named_alike_everywhere_and_by_nobody_without_the_secret() -> None:
    assert user_key(b"secret", "alice") == user_key(b"secret", "alice")
    assert user_key(b"secret", "alice") not in {user_key(b"secret", "alicf"), user_key(b"other", "alice"), user_key(b"", "alice")}
    assert len(user_key(b"s" * 100, "이름@example.com" * 20)) == 22


def test_room_is_bounded_and_what_finds_none_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MOST_ROLLUPS", 2)
    monkeypatch.setattr(traffic, "MOST_USERS", 3)
    tally = Tally()
    for number in range(5):
        add(tally, user=f"u{number}")
        add(tally, user=f"u{number}")
        add(tally, api_code=f"BA{number:02d}")
    rollups, seen, uncounted = tally.taken()
    assert len(rollups) == 2
    assert sum(len(each.users) for each in seen) == 3
    assert uncounted == 4 + 3  # users 3 and 4, twice each; three of the five codes, since BA01 was there, and one found room


CALLS = st.lists(
    st.tuples(st.sampled_from(["BA01", "BA02"]), st.integers(0, 30_000), st.sampled_from([None, "50001", "deadline"]), st.booleans())
)


@given(CALLS, st.integers(1, 7), st.randoms())
def test_increments_add_up_to_the_same_in_any_order_and_however_they_are_cut(
    calls: list[tuple[str, int, str | None, bool]], pieces: int, random: Any
) -> None:
    def rolled(some: list[tuple[str, int, str | None, bool]]) -> tuple[Rollup, ...]:
        tally = Tally()
        for api_code, took_ms, reason, slow in some:
            add(tally, api_code=api_code, took_ms=took_ms, reason=reason, slow=slow)
        return tally.taken()[0]

    increments = [each for piece in range(pieces) for each in rolled(calls[piece::pieces])]
    random.shuffle(increments)
    whole = {(each.org_code, each.api_code, each.scheduled, each.hour): each for each in rolled(calls)}
    assert merged(increments) == whole
