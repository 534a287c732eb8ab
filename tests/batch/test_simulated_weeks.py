"""Whole weeks in simulated time, at the size that counts, with everything going wrong. Real time: some ten seconds in all."""

from __future__ import annotations

import pytest

from tests.batch.simulated import DAY, HOUR, Place, Seen, Trouble, hourly, week

LINKS = 1_000_000
WINDOWS = (("0100:0700",), ("0030:0630",), ("0030:0530", "2200:2330"), ("0000:0800",))


def is_right(seen: Seen, links: int) -> None:
    """What holds whatever went wrong."""
    assert seen.recorded.count(1) == links  # every link,
    assert seen.twice == 0  # once
    assert (seen.outside, seen.above_cap, seen.above_limit) == (0, 0, 0)
    assert seen.behind <= 1.0
    assert seen.unknown <= seen.in_flight


def test_a_million_links_in_a_calm_week_leave_as_planned() -> None:
    seen = week(Place(links=LINKS))
    is_right(seen, LINKS)
    assert seen.by_day[3] == min(seen.by_day)  # payday
    users = Place(links=0).user_calls
    heights = [calls + links for calls, links in zip(users, seen.by_day, strict=True)]
    assert max(heights) - min(heights) <= 1
    assert (seen.failed, seen.unknown, seen.eased) == (0, 0, 1.0)


def test_a_million_links_survive_an_outage_a_slow_provider_and_a_death_each_hour() -> None:
    trouble = Trouble(
        outage=(2 * DAY + 3 * HOUR, 3 * DAY + 3 * HOUR), slow=(4 * DAY + 2 * HOUR, 4 * DAY + 4 * HOUR), capacity=15.0, deaths=hourly(30.37)
    )
    seen = week(Place(links=LINKS, calls_per_link=4_000), trouble)
    is_right(seen, LINKS)
    assert seen.failed > 0
    assert seen.unknown > 0
    assert seen.eased < 0.5
    assert seen.too_much < 0.15 * 2 * 3_600  # of the seconds in which it was slow it was asked for more than it can


def test_an_outage_until_saturday_leaves_one_short_night_for_the_rest() -> None:
    trouble = Trouble(outage=(5 * DAY + 3 * HOUR, 6 * DAY + 3 * HOUR), deaths=hourly(59.9))
    seen = week(Place(links=LINKS // 5, calls_per_second=15.0), trouble)
    is_right(seen, LINKS // 5)
    assert seen.by_day[6] == max(seen.by_day)


def test_a_hundred_providers_of_every_window_in_trouble_at_different_times() -> None:
    for number in range(100):
        begins = (number % 6) * DAY + number * 1_000
        trouble = Trouble(outage=(begins, begins + DAY), deaths=hourly(number * 0.59))
        is_right(week(Place(links=10_000, np_times=WINDOWS[number % 4], calls_per_second=20.0), trouble), 10_000)


def test_what_cannot_be_sent_in_time_is_left_and_nothing_else_goes_wrong() -> None:
    seen = week(Place(links=1_000, calls_per_second=2.0), Trouble(outage=(HOUR, 7 * DAY)))
    assert seen.recorded.count(1) == 0
    assert (seen.outside, seen.above_cap, seen.twice) == (0, 0, 0)


@pytest.mark.parametrize("minute", [0.0, 0.05, 29.99, 54.0, 59.95])
def test_it_does_not_matter_when_in_an_hour_they_die(minute: float) -> None:
    is_right(week(Place(links=20_000, calls_per_second=20.0), Trouble(deaths=hourly(minute))), 20_000)
