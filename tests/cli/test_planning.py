from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from backend.batch.closures import closures_of
from backend.batch.rehearsal import Assumed, Visitors, peak_to_mean, rehearse
from backend.cli.planning import drawing
from backend.cli.visitors import UnreadableVisitors, read_visitors
from backend.providers.directory import BUILT_IN, load_directory
from tests.batch.given import SUNDAY

PROVIDERS = load_directory(BUILT_IN).providers
SVG = "{http://www.w3.org/2000/svg}"


def plan(moa, data: Path, *more: str):
    return moa("plan", "--week", "2026-11-24", "--data", str(data), *more)


def test_a_week_is_shown_with_its_reasons_and_touches_nothing(moa, data: Path) -> None:
    said = plan(moa, data, "--users", "100000")
    assert (said.code, said.err) == (0, "")
    assert "Week of Sunday 2026-11-22, 100,000 users" in said.out
    assert all(provider.org_code in said.out for provider in PROVIDERS)
    assert "Wednesday 2026-11-25 (payday, a trading day)" in said.out
    assert "as planned" in said.out
    assert not data.exists()


def test_without_a_week_it_is_the_next_one(moa, data: Path) -> None:
    assert "Week of Sunday 20" in moa("plan", "--users", "10", "--data", str(data)).out


def test_the_picture_stacks_users_and_batch_by_day_and_by_half_hour(moa, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.svg"
    said = plan(moa, data, "--out", str(out))
    assert said.code == 0
    panels = ElementTree.parse(out).getroot().findall(f"{SVG}g")  # our own file
    assert [len(panel.findall(f"{SVG}g")) for panel in panels] == [7, 48]


def test_a_picture_of_nothing_can_be_drawn() -> None:
    week = rehearse(PROVIDERS[:1], users=0, week=SUNDAY, closures=closures_of([2026]), visitors=Visitors(), assumed=Assumed())
    assert ElementTree.fromstring(drawing(week)) is not None
    assert week.flatness == 1.0


def test_the_plan_is_flatter_than_both_ways_without_one_and_its_half_hours_add_up() -> None:
    week = rehearse(PROVIDERS, users=1_000, week=SUNDAY, closures=closures_of([2026]), visitors=Visitors(), assumed=Assumed())
    assert week.flatness < week.equal < week.at_once
    for day, half_hours in zip(week.by_day, week.by_half_hour, strict=True):
        assert sum(pile.users for pile in half_hours) == pytest.approx(day.users)
        assert sum(pile.batch for pile in half_hours) == pytest.approx(day.batch)
    assert peak_to_mean([0.0, 0.0]) == 1.0


def test_a_day_of_the_week_itself_is_taken_as_it_is_and_says_nothing_of_the_others() -> None:
    def users(visitors: Visitors) -> list[int]:
        week = rehearse(PROVIDERS[:1], users=1_000, week=SUNDAY, closures=closures_of([2026]), visitors=visitors, assumed=Assumed())
        return [day.user_calls for day in week.plans[0].days]

    assert users(Visitors(((SUNDAY, 7_000),))) == [35_000, *users(Visitors())[1:]]


def test_a_week_that_is_too_much_ends_with_one_line(moa, data: Path) -> None:
    said = plan(moa, data, "--users", "100000000")
    assert said.code == 1
    assert said.err.startswith("moa: A1MOABK001: impossible from Saturday 2026-11-28 on: ")
    assert said.err.count("\n") == 1
    assert "more providers" in said.err
    assert "Why, at" in said.out


def test_an_operators_word_makes_a_payday_another_day(moa, data: Path) -> None:
    assert "Tuesday 2026-11-24 (payday)" in plan(moa, data, "--day", "2026-11-25=holiday", "--day", "2026-11-24=no_trading").out


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--day", "2026-11-25=off"], 2, "moa: Invalid value for --day: `2026-11-25=off`: "),
        (["--week", "9999-12-31"], 2, "moa: Invalid value for --week: "),
        (["--week", "soon"], 2, "moa: "),
        (["--uv", "nowhere.csv"], 1, "moa: No such file"),
        (["--users", "-1"], 2, "moa: "),
        (["--users", "many"], 2, "moa: "),
    ],
)
def test_mistakes_are_one_line(moa, data: Path, arguments: list[str], code: int, line: str) -> None:
    said = plan(moa, data, *arguments)
    assert (said.code, said.err[: len(line)]) == (code, line)
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(("out", "line"), [("no/such/folder/plan.svg", "moa: No such folder: /"), (".", "moa: A folder has this name: .")])
def test_a_place_where_no_picture_can_be_is_said_before_anything_is_shown(moa, data: Path, out: str, line: str) -> None:
    said = plan(moa, data, "--out", out)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith(line)


def test_past_visitors_are_forecast_from_and_those_of_the_week_are_taken_as_they_are(moa, data: Path, tmp_path: Path) -> None:
    lines = [f"2026-{month:02d}-{day:02d},{1000 + day}" for month in (9, 10) for day in range(1, 31)]
    uv = tmp_path / "uv.csv"
    uv.write_text("\n".join(["date,uv", *lines]), "utf-8")
    said = plan(moa, data, "--uv", str(uv))
    assert said.code == 0
    assert "Forecast: weeks before were" in said.out
    uv.write_text("\n".join(["7000", "1", "1", "1", "1", "1", "1"]), "utf-8")
    assert "users are expected to make 35,000 calls" in plan(moa, data, "--uv", str(uv)).out


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22,7\n2026-11-23,8\n",
        "day;users\n20261122;7\n20261123;8",
        '"2026-11-22"\t7\n\n"2026-11-23"\t"8"',
        '{"2026-11-22": 7, "2026-11-23": 8}',
    ],
)
def test_visitors_are_read_from_what_people_export(tmp_path: Path, text: str) -> None:
    file = tmp_path / "uv"
    file.write_text(text, "utf-8-sig")
    assert [users for _, users in read_visitors(file, SUNDAY).by_day] == [7, 8]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "has no day"),
        (b"date,users", "has no day"),
        (b"2026-11-22,7\n2026-11-23,many", "line 2: a number"),
        (b"2026-11-22,-7", "line 1: a number"),
        (b"2026-13-22,7", "line 1: `2026-11-22,120000`"),
        (b"1\n2\n3", "line 1: `2026-11-22,120000`"),
        (b"{", '{"2026-11-22"'),
        (b'{"2026-11-22": "x"}', '{"2026-11-22"'),
        (b"\xff\xfe", "UTF-8"),
        (b"1" * 4_000_001, "4 MB"),
    ],
)
def test_a_file_that_says_nothing_is_told_by_its_line(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "uv.csv"
    file.write_bytes(content)
    with pytest.raises(UnreadableVisitors) as raised:
        read_visitors(file, SUNDAY)
    assert line in str(raised.value)
