from __future__ import annotations

import pytest

from backend.batch.calendar import Mark, Window, windows_on
from backend.batch.forecast import Options, Past, forecast
from backend.batch.profiles import Profile, profile_of
from backend.events import Industry
from benchmarks.weeks import Weather, days_of, lived
from tests.batch.given import CLOSURES, SUNDAY, days

DAYS = days_of(CLOSURES)
CALM = Weather(lasting=0.0, passing=0.0, surprises=0.0, growth=0.0, day_after=1.0)
OPTIONS, PROFILE = Options(), Profile()


def wrong(week: list[Past], calls: tuple[int, ...]) -> float:
    """By which part the worst day was off."""
    return max(abs(told / one.calls - 1) for told, one in zip(calls, week, strict=True))


def test_without_history_the_profile_speaks() -> None:
    told = forecast(days(), [], profile=PROFILE, options=OPTIONS, users=1_000)
    assert told.error is None
    assert told.calls[3] == round(1_000 * 5.0 * 1.02 * 2.0)  # Wednesday, a payday
    assert told.calls[0] == round(1_000 * 5.0 * 0.88)


def test_nobody_known_and_nobody_told_is_nobody_expected() -> None:
    assert forecast(days(2), [], profile=PROFILE, options=OPTIONS).calls == (0, 0)


def test_what_days_were_like_replaces_the_profile() -> None:
    past = lived(DAYS, CALM, seed=1)
    told = forecast([one.day for one in past[280:287]], past[:280], profile=PROFILE, options=OPTIONS)
    assert wrong(past[280:287], told.calls) < 0.04
    assert told.error is not None
    assert told.error.weeks == 4
    assert told.error.absolute < 0.04


def test_the_error_of_noisy_days_is_measured() -> None:
    past = lived(DAYS, Weather(), seed=1)
    error = forecast(DAYS[280:287], past[:280], profile=PROFILE, options=OPTIONS).error
    assert error is not None
    assert 0.02 < error.absolute < 0.15
    assert abs(error.bias) <= error.absolute


def test_a_few_days_are_enough_for_the_level() -> None:
    past = lived(DAYS, CALM, seed=1)[100:103]
    told = forecast(DAYS[103:110], past, profile=PROFILE, options=OPTIONS)
    assert 0.8 < sum(told.calls) / sum(one.calls for one in lived(DAYS, CALM, seed=1)[103:110]) < 1.25
    assert told.error is None


def test_a_day_of_our_own_retries_is_no_day_of_many_users() -> None:
    past = lived(DAYS, CALM, seed=1)[:200]
    doubled = [*past[:-1], Past(past[-1].day, past[-1].calls * 2, past[-1].users)]
    blind = [Past(one.day, one.calls) for one in doubled]
    calm, told, misled = (forecast(DAYS[200:203], each, profile=PROFILE, options=OPTIONS).calls for each in (past, doubled, blind))
    assert told == pytest.approx(calm, rel=0.005)
    assert misled[0] > 1.1 * calm[0]


def test_a_rise_goes_on_and_fades() -> None:
    past = lived(DAYS, CALM, seed=1)[:200]
    risen = [*past[:-3], *(Past(one.day, round(one.calls * 1.3), round((one.users or 0) * 1.3)) for one in past[-3:])]
    before, after = (forecast(DAYS[200:207], each, profile=PROFILE, options=OPTIONS).calls for each in (past, risen))
    shares = [now / then for now, then in zip(after, before, strict=True)]
    assert shares[:4] == sorted(shares[:4], reverse=True)
    assert shares[0] > 1.1
    assert 1.0 < shares[6] < 1.05


def test_old_days_are_forgotten() -> None:
    once = lived(DAYS, CALM, seed=1)[:200]
    busier = [Past(one.day, one.calls * (1 + (age > 120)), (one.users or 0) * (1 + (age > 120))) for age, one in enumerate(once)]
    forgetting, remembering = (
        sum(forecast(DAYS[210:217], busier, profile=PROFILE, options=Options(half_life=half_life)).calls) for half_life in (45.0, 1e9)
    )
    assert remembering < 0.85 * forgetting
    assert forgetting < 2.05 * sum(forecast(DAYS[210:217], once, profile=PROFILE, options=OPTIONS).calls)


def test_days_without_calls_and_holes_are_no_stumbling_stone() -> None:
    past = [Past(one.day, 0, 0) if number % 9 == 0 else one for number, one in enumerate(lived(DAYS, CALM, seed=1)[:120]) if number % 5]
    assert wrong(lived(DAYS, CALM, seed=1)[120:127], forecast(DAYS[120:127], past, profile=PROFILE, options=OPTIONS).calls) < 0.1


def test_a_days_calls_are_spread_over_its_hours() -> None:
    assert sum(PROFILE.hours) == pytest.approx(1)
    assert PROFILE.within(1_000, windows_on(SUNDAY, ())) == pytest.approx(1_000)
    night, half = windows_on(SUNDAY, ("0100:0700",)), windows_on(SUNDAY, ("0030:0100",))
    assert PROFILE.within(1_000, night) == pytest.approx(1_000 * sum(PROFILE.hours[1:7]))
    assert PROFILE.within(1_000, half) == pytest.approx(500 * PROFILE.hours[0])
    assert PROFILE.within(1_000, list[Window]()) == 0


@pytest.mark.parametrize("industry", list(Industry))
def test_every_industry_has_a_profile(industry: Industry) -> None:
    profile = profile_of(industry)
    assert set(profile.marks) <= set(Mark)
    assert len(profile.weekdays) == 7
