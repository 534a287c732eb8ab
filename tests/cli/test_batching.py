"""`moa batch` against a running system, and how it looks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from rich.console import Console
from typer import BadParameter

from backend.cli.batch_board import Batch, Progress, batch_table, beginning, holding, said
from backend.cli.batching import span
from tests.running import Running

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)  # Sunday, 10:02 in Korea
BANK, SEEDED = "A1MOABK003", "A1MOABK001"
FIELDS = Progress.__struct_fields__


@pytest.fixture
def ops(running: Running, moa) -> Iterator[Callable[..., object]]:
    yield lambda *arguments: moa("batch", *arguments, "--data", str(running.data))
    moa("batch", "resume", "--data", str(running.data))


def progress(**more: object) -> Progress:
    given: dict[str, object] = {
        "name": "[Bank]",
        "due": 60,
        "done": 30,
        "failed": 0,
        "skipped": 10,
        "unknown": 0,
        "planned_today": 1_234,
        "pace_per_minute": 0,
        "lag_seconds": 0.0,
    }
    return Progress(org_code=BANK, **given | more)  # type: ignore[arg-type]


def shown(*providers: Progress, paused: bool = False) -> str:
    written = io.StringIO()
    Console(file=written, width=200).print(batch_table(Batch("2026-11-22", paused, providers), NOW, trouble="old"))
    return written.getvalue()


@pytest.mark.system
def test_the_batch_is_held_and_let_go_on(ops) -> None:
    assert ops("status").code == 0
    held = ops("pause", "--provider", BANK, "--reason", "asked by phone")
    assert (held.code, held.out, held.err) == (0, f"{BANK}: held\n", "")
    assert ops("pause").out == "all: held\n"
    assert "all of it is held" in ops().out
    assert ops("resume", "--provider", BANK).out == f"{BANK}: held\n"
    assert ops("resume").out == "all: goes on\n"
    assert "held" not in ops("status").out


@pytest.mark.system
def test_what_cannot_be_is_one_line(ops) -> None:
    unknown = ops("pause", "--provider", "Z9NOBODY01")
    assert (unknown.code, unknown.err) == (1, "moa: Choose providers from GET /v1/providers.\n")
    assert ops("run", "--within", "soon").code == 2
    assert ops("run", "--within", "5s").code == 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("3m", 180), ("1h", 3600), (" 75 ", 75)])
def test_a_span_is_read(text: str, seconds: int) -> None:
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1m", "1.5m", "3 minutes", "3d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        span(text)


def test_a_row_shows_what_there_is_and_leaves_out_who_has_nothing() -> None:
    idle, nobody = progress(name="Idle"), progress(name="Nobody", due=0, done=0, skipped=0)
    at_work = progress(pace_per_minute=2_778, lag_seconds=12.3, failed=5, finish_estimate=NOW + timedelta(hours=1))
    board = shown(idle, nobody, at_work)
    assert board.index("[Bank]") < board.index("Idle"), "who is at work comes first"
    assert "Nobody" not in board
    row = next(line for line in board.splitlines() if "[Bank]" in line)
    assert all(each in row for each in (BANK, "60", "30", "5", "10", "1,234", "2,778", "12 s", "11:02", "━"))
    assert "not this week" in board
    assert "old" in board


def test_finishes_on_other_days_have_a_name_and_what_is_held_has_none() -> None:
    assert "Tue 11:02" in shown(progress(finish_estimate=NOW + timedelta(days=2, hours=1)))
    assert "held" in shown(progress(paused=True, finish_estimate=NOW))
    assert "nothing is due" in shown()
    assert "all of it is held" in shown(paused=True)


def test_what_came_of_a_rehearsal_is_a_line_for_each_provider_and_one_for_all() -> None:
    before, after = progress(), progress(due=0, done=1_090, failed=2, unknown=1)
    elsewhere = Progress(**{name: getattr(after, name) for name in after.__struct_fields__} | {"org_code": "B1MOACD001"})
    told = said(Batch("w", False, (before,)), Batch("w", False, (after, elsewhere)), frozenset({BANK}), timedelta(seconds=124))
    assert told == [
        f"{BANK} [Bank]: 1,060 refreshed, 2 failed, 1 unknown, 0 due",
        "1,060 refreshed, 2 failed, 1 unknown, 0 due; 124 s",
    ]


def test_a_rehearsal_begins_with_a_line_in_koreas_time() -> None:
    batch = Batch("w", False, (progress(), Progress(**{name: getattr(progress(), name) for name in FIELDS} | {"org_code": SEEDED})))
    one = beginning(batch, NOW, {BANK: NOW + timedelta(minutes=3)}, 0)
    assert one == f"rehearsal at {BANK}, 60 links due, from 10:02:03 to 10:05:03 KST"
    assert beginning(batch, NOW, {BANK: NOW}, 1).endswith(" KST; it takes the place of one that was open")
    both = beginning(batch, NOW, {BANK: NOW + timedelta(minutes=3), SEEDED: NOW + timedelta(minutes=2)}, 1)
    assert both.startswith(
        "rehearsal at 2 providers, 120 links due, from 10:02:03 to 10:05:03 KST; it takes the place of one that was open at 1"
    )


def test_what_comes_to_be_held_is_said_once_and_so_is_its_end() -> None:
    assert holding(frozenset(), {SEEDED, BANK}) == [f"{code}: held; `moa batch resume` lets it go on" for code in (SEEDED, BANK)]
    assert holding({BANK}, {BANK}) == []
    assert holding({BANK}, frozenset()) == [f"{BANK}: goes on"]


def test_a_rehearsal_has_a_column_of_its_own() -> None:
    assert "rehearsal" not in shown(progress())
    board = shown(progress(rehearsal=True, rehearsal_links=4_321))
    assert all(each in board for each in ("rehearsal", "4,321", "1,234", "finish (KST)"))


@pytest.mark.system
@pytest.mark.long
def test_a_rehearsal_refreshes_all_that_is_due_and_is_followed_to_its_end(ops, moa, running: Running) -> None:
    """In real time: a minute is the shortest that there is."""
    assert moa("seed", "--links", "60", "--providers", "1", "--data", str(running.data)).code == 0
    told = ops("run", "--provider", SEEDED, "--within", "65s")
    assert (told.code, told.err) == (0, "")
    first, one, all_ = told.out.splitlines()
    assert re.fullmatch(rf"rehearsal at {SEEDED}, \d+ links due, from [\d:]+ to [\d:]+ KST", first)
    assert one.startswith(SEEDED)
    assert re.fullmatch(r"60 refreshed, 0 failed, 0 unknown, 0 due; \d+ s", all_)
    calls = httpx.get(f"{running.settings.sandbox_url}/sandbox/calls", params={"org_code": SEEDED}).json()["calls"]
    scheduled = {call["user"] for call in calls if call.get("api_type") == "scheduled"}
    assert len(scheduled) == 60
