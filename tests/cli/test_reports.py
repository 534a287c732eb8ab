"""`moa traffic`, `moa statistics` and `moa alerts` against a running system."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console
from rich.table import Table

from backend.cli.boards import Row, breakers_table
from backend.cli.listing import show
from backend.cli.report_tables import (
    Alert,
    Category,
    Consents,
    Figure,
    Losses,
    OfProvider,
    Reason,
    Reported,
    Statistics,
    Sums,
    Traffic,
    alerts_table,
    categories_table,
    providers_table,
    statistics_table,
)
from tests.running import Running

NOW = datetime(2026, 11, 22, 1, tzinfo=UTC)


def printed(table: object) -> str:
    console = Console(width=200)
    with console.capture() as said:
        console.print(table)
    return said.get()


def shown_in_a_narrow_terminal(table: Table) -> str:
    console = Console(width=80, file=io.StringIO())
    show(table, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_narrow_terminal_shows_whose_figures_they_are() -> None:
    nothing, sums = Figure(0, 0), Sums(1_234_567, 1_234_560, 7, 0, 12.34, 5.6)
    provider = OfProvider("A1MOABK001", "새벽은행", 1_234_567, 100, Figure(1_234_567, 100), nothing, sums, 9, "bank", 1.67, "flame")
    traffic = Traffic("2024-04-02", "2024-03-26", NOW, (), (provider,), {}, Losses(0, 0))
    reported = Reported("A1MOABK001", "새벽은행", sums, sums, sums, (Reason("deadline", False, 7),), Consents(1, 2, 3))
    for table in (providers_table(traffic), statistics_table(Statistics("2024-03-31", "2024-04-06", True, (reported,)))):
        said = shown_in_a_narrow_terminal(table)
        for whole in ("새벽은행", "A1MOABK001", "1,234,567", "12.3"):
            assert whole in said
    key = "circuit:A1MOABK001:token"
    assert key in "".join(each for each in printed(alerts_table([Alert(key, "circuit", {}, NOW)])).split())


def test_a_board_in_a_narrow_terminal_says_which_circuit_is_open() -> None:
    row = Row(
        org_code="A1MOABK001",
        name="모아 샌드박스 은행",
        scope="token",
        state="half_open",
        mode="auto",
        epoch=1,
        reason="probing",
        since=NOW,
    )
    console = Console(width=80)
    with console.capture() as said:
        console.print(breakers_table([row], NOW))
    for whole in ("A1MOABK001", "token", "half_open"):
        assert whole in said.get()


@pytest.mark.system
def test_all_three_answer(running: Running, moa, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--data", str(running.data))
    said = moa("traffic", *data)
    assert (said.code, said.err) == (0, "")
    assert "은행 bank" in said.out
    assert "[제공기관 트래픽 증가 알림]" in said.out
    monkeypatch.setenv("MOA_NOTICE_LANGUAGE", "en")
    assert "[Provider traffic alert]" in moa("traffic", *data).out
    for command in (("statistics", "--week", "2026-01-04"), ("alerts", "--open"), ("traffic", "--date", "2026-01-04")):
        said = moa(*command, *data)
        assert (said.code, said.err) == (0, ""), command
    said = moa("statistics", "--week", "2026-01-05", *data)
    assert said.code == 1
    assert "a Sunday is needed; the one of that week is 2026-01-04" in said.err


def test_what_burns_is_marked_with_its_ratio() -> None:
    nothing = Figure(0, 0)
    provider = OfProvider(
        "A1MOABK001", "[bold]은행", 167, 100, Figure(167, 100), nothing, Sums(172, 169, 1, 2, 12.34, 5.6), 9, "bank", 1.67, "flame"
    )
    found = Traffic(
        date="2024-04-02",
        compared_with="2024-03-26",
        until=NOW,
        categories=(Category("bank", 167, 100, 170, 1.67, "flame"), Category("card", 40, 100, 40, 0.4, "drop"), Category("insu", 1, 0, 1)),
        providers=(provider,),
        text={},
        losses=Losses(0, 0),
    )
    lines = printed(categories_table(found)).splitlines()
    bank, card, insu = [line.split() for line in lines if any(name in line for name in ("bank", "card", "insu"))]
    assert bank == ["은행", "bank", "167", "100", "1.67", "🔥", "170"]
    assert card[-3:] == ["0.40", "📉", "40"]
    assert insu == ["보험", "insu", "1", "0", "1"]


def test_each_column_says_until_when_it_counts() -> None:
    provider = OfProvider("A1MOABK001", "[bold]은행", 0, 0, Figure(0, 0), Figure(0, 0), Sums(132, 30, 101, 1, 12.34, 5.6), 9, "bank")
    found = Traffic("2024-04-02", "2024-03-26", NOW, (), (provider,), {}, Losses(0, 0))
    first, above, below, _, row = [line for line in printed(providers_table(found)).splitlines() if line.strip()]
    assert first.split() == ["users'", "scheduled"]
    named = ["until", "a", "week", "until", "until", "day", "failed", "cancelled", "mean", "ms", "deviation", "probes"]
    assert above.split() == named
    assert below.split() == ["provider", "code", "category", "10:00", "before", "ratio", "10:00", "10:00", *["so", "far"] * 6]
    assert row.split() == ["[bold]은행", "A1MOABK001", "bank", *"0000", "132", "101", "1", "12.3", "5.6", "9"]


def test_the_weekly_report_shows_who_asked_and_why_calls_failed() -> None:
    sums, probes = Sums(6, 2, 1, 3, 10.0, 2.5), Sums(4, 0, 4)
    reasons = (Reason("50001", scheduled=False, calls=1), Reason("42901", scheduled=True, calls=1))
    one = Reported("A1MOABK001", "은행", sums, sums, probes, reasons, Consents(1, 2, 3))
    shown = printed(statistics_table(Statistics("2024-03-31", "2024-04-06", complete=False, providers=(one,))))
    assert "2024-03-31 to 2024-04-06, not over yet" in shown
    late = Statistics("2024-03-31", "2024-04-06", complete=False, providers=(one,), consents_missing=("2024-04-05", "2024-04-06"))
    assert "2024-03-31 to 2024-04-06, consents without 2024-04-05 to 2024-04-06" in printed(statistics_table(late))
    users, scheduled, probed = [line.split() for line in shown.splitlines() if "A1MOABK001" in line]
    assert users[2:] == ["users", "6", "2", "1", "3", "10.0", "2.5", "3", "1", "2", "50001:", "1"]
    assert scheduled[2:] == ["scheduled", "6", "2", "1", "3", "10.0", "2.5", "42901:", "1"]
    assert probed[2:] == ["probes", "4", "0", "4", "0"]


def test_alerts_show_since_when_and_until_when() -> None:
    shown = printed(alerts_table([Alert("queue:batch", "queue_old", {"queue": "batch"}, NOW), Alert("k", "moon", {}, NOW, NOW)]))
    assert "now" in shown
    assert "queue: batch" in shown
