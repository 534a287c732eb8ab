"""The laws of the comparison: sums add up, marks follow from counts, and the cause is who moved most."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from backend.events import Industry
from backend.reporting.comparison import (
    Cause,
    Compared,
    Counted,
    Figure,
    History,
    Mark,
    Options,
    compare,
    hours_of,
    morning_hours,
    ratio_of,
)

DAY = date(2024, 4, 2)
MIDNIGHT = datetime(2024, 4, 1, 15, tzinfo=UTC)  # of that day in Korea
UNTIL = MIDNIGHT + timedelta(hours=9)
WEEK = timedelta(days=7)
INDUSTRIES = {f"{industry.value.upper()[:4]:X<4}{n:06}": industry for industry in Industry for n in range(2)}

counts = st.integers(0, 10_000)
sides = st.dictionaries(
    st.tuples(st.sampled_from([*INDUSTRIES, "CAMOA00001"]), st.booleans()), st.tuples(counts, st.none() | st.integers(1, 500)), max_size=20
).map(lambda found: [Counted(org_code=key[0], scheduled=key[1], calls=each[0], users=each[1]) for key, each in found.items()])
options = st.builds(
    Options,
    flame=st.decimals("1.01", "10", places=2),
    drop=st.decimals("0.01", "0.99", places=2),
    floor=st.integers(0, 500),
)


def compared(
    now: list[Counted], before: list[Counted], options: Options | None = None, known_since: datetime | None = MIDNIGHT - WEEK
) -> Compared:
    return compare(now, before, INDUSTRIES, day=DAY, until=UNTIL, known_since=known_since, options=options or Options())


@settings(max_examples=40)
@given(sides, sides, options)
def test_providers_add_up_to_categories_and_everybody_is_in_one_place(now: list[Counted], before: list[Counted], options: Options) -> None:
    found = compared(now, before, options)
    assert [each.industry for each in found.categories] == list(Industry)
    for category in found.categories:
        parts = [each.figure for each in found.providers if each.industry is category.industry]
        assert sum(parts, Figure(0, 0)) == category.figure
    assert sum(each.figure.calls for each in found.providers) == sum(each.calls for each in now)
    assert sum(each.figure.before for each in found.providers) == sum(each.calls for each in before)
    assert all((each.industry is None) == (each.org_code == "CAMOA00001") for each in found.providers)


@settings(max_examples=40)
@given(sides, sides, options)
def test_marks_follow_from_the_counts_alone(now: list[Counted], before: list[Counted], options: Options) -> None:
    found = compared(now, before, options)
    for each in (*found.categories, *found.providers):
        calls, then = each.figure.calls, each.figure.before
        if max(calls, then) < max(options.floor, 1):
            assert each.mark is None
        elif then == 0 or Fraction(calls, then) >= Fraction(options.flame):
            assert each.mark is Mark.FLAME
        else:
            assert (each.mark is Mark.DROP) == (Fraction(calls, then) < Fraction(options.drop))


@settings(max_examples=40)
@given(sides, sides, options)
def test_the_cause_is_who_moved_most_in_the_direction_of_the_whole(now: list[Counted], before: list[Counted], options: Options) -> None:
    ones, others = ({(each.org_code, each.scheduled): each for each in side} for side in (now, before))
    for category in compared(now, before, options).categories:
        assert (category.cause is not None) == (category.mark is not None)
        if category.cause is None:
            continue
        up = 1 if category.figure.more > 0 else -1
        moves = [
            up * ((ones[key].calls if key in ones else 0) - (others[key].calls if key in others else 0))
            for key in ones.keys() | others.keys()
            if INDUSTRIES.get(key[0]) is category.industry
        ]
        assert up * category.cause.figure.more == max(moves)
        assert category.cause.share is None or 0 < category.cause.share <= 100


@settings(max_examples=40)
@given(sides, sides, st.randoms())
def test_the_order_of_rows_says_nothing(now: list[Counted], before: list[Counted], random: object) -> None:
    mixed_now, mixed_before = list(now), list(before)
    random.shuffle(mixed_now)  # type: ignore[attr-defined]
    random.shuffle(mixed_before)  # type: ignore[attr-defined]
    assert compared(mixed_now, mixed_before) == compared(now, before)


@settings(max_examples=40)
@given(sides, sides)
def test_without_history_nothing_burns(now: list[Counted], before: list[Counted]) -> None:
    for since in (None, UNTIL - WEEK, UNTIL):
        found = compared(now, before, known_since=since)
        assert found.history is History.NONE
        assert {each.mark for each in (*found.categories, *found.providers)} <= {None}


def test_what_is_known_of_the_day_before_is_said() -> None:
    since = {MIDNIGHT - WEEK - timedelta(hours=1): History.WHOLE, MIDNIGHT - WEEK: History.WHOLE}
    since |= {MIDNIGHT - WEEK + timedelta(hours=1): History.PARTIAL, UNTIL - WEEK: History.NONE}
    assert {moment: compared([], [], known_since=moment).history for moment in since} == since


@given(counts, st.integers(1, 10_000))
def test_ratios_are_exact_to_two_decimals_halves_upward(calls: int, before: int) -> None:
    shown = ratio_of(calls, before)
    assert shown is not None
    assert Fraction(-1, 200) < Fraction(shown) - Fraction(calls, before) <= Fraction(1, 200)
    assert -shown.as_tuple().exponent == 2
    assert ratio_of(calls, 0) is None


@given(st.tuples(*[st.integers(1, 10_000)] * 4))
def test_users_or_calls_per_user_whichever_moved_more(each: tuple[int, int, int, int]) -> None:
    calls, calls_before, users, users_before = each
    cause = Cause(org_code="x", scheduled=False, figure=Figure(calls, calls_before), share=Decimal(100), users=Figure(users, users_before))
    of_users, of_each = Fraction(users, users_before), Fraction(calls * users_before, calls_before * users)
    assert cause.by_users == (of_users >= of_each if calls >= calls_before else of_users <= of_each)
    assert cause.per_user == ratio_of(calls * users_before, calls_before * users)


def test_an_hour_counts_when_its_last_calls_are_in_the_sums() -> None:
    minute = timedelta(minutes=1)
    for now, hours in ((UNTIL, 8), (UNTIL + minute, 9), (UNTIL + 59 * minute, 9), (MIDNIGHT, 0), (MIDNIGHT - 5 * WEEK, 0)):
        assert hours_of(DAY, now) == MIDNIGHT + timedelta(hours=hours)
    assert hours_of(DAY, MIDNIGHT + timedelta(days=1)) == MIDNIGHT + timedelta(hours=23)
    assert hours_of(DAY, MIDNIGHT + timedelta(days=1, minutes=1)) == MIDNIGHT + timedelta(hours=24)


def test_the_morning_message_has_the_hours_up_to_its_set_time_whenever_it_is_written() -> None:
    at = timedelta(hours=9, minutes=30)
    goes_at = UNTIL + timedelta(minutes=31)
    for now in (goes_at, UNTIL + timedelta(hours=5), goes_at + timedelta(days=1, milliseconds=-1)):
        assert morning_hours(now, at) == (DAY, UNTIL, goes_at)
    assert morning_hours(goes_at - timedelta(milliseconds=1), at) == (DAY - timedelta(days=1), UNTIL - WEEK / 7, goes_at - WEEK / 7)
