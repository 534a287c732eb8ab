"""Numbered reports out of a bounded buffer, whatever becomes of those who hear them. Its pace is real time: a tenth of a second."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.clock import SystemClock
from backend.providers.calling import noticing
from backend.providers.calling.noticing import A_SUM, MOST_CALLS, MOST_IN_A_REPORT, TOLD_EVERY, Noticed, Noticing, ReportsInMemory
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, Report
from backend.providers.contract import ApiType
from backend.providers.outcomes import Failure, Weight
from backend.providers.traffic import merged
from tests.providers.given import BANK

CLOCK = SystemClock()
CIRCUIT = Circuit(BANK, Scope.READ)


def noticed(weight: Weight | None = Weight.OK, **more: Any) -> Noticed:
    reason = Failure.RESET.value if weight is Weight.FAILURE else None
    usual = {"epoch": 1, "took": 0.02, "api_code": "BA01", "api_type": ApiType.USER_REFRESH, "reason": reason, "user": "u1"}
    return Noticed(circuit=CIRCUIT, weight=weight, began=CLOCK.monotonic() - 0.02, **{**usual, **more})


async def until(true: Callable[[], object], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


def calls(reports: list[Report]) -> int:
    return sum(len(report.calls) for report in reports)


def rolled(reports: list[Report]) -> int:
    return sum(each.calls for each in merged(each for report in reports for each in report.rollups).values())


async def test_calls_of_a_tenth_of_a_second_go_into_one_report() -> None:
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK, node="n1") as told:
        begun = CLOCK.monotonic()
        for _ in range(50):
            told.notice(noticed())
            await asyncio.sleep(0)
        assert reports.received == []
        await until(lambda: reports.received)
        assert CLOCK.monotonic() - begun >= TOLD_EVERY * 0.9
    (report,) = reports.received
    assert (report.node, report.number, len(report.calls), report.dropped) == ("n1", 1, 50, 0)
    assert all(0 <= call.ago_ms < 5_000 and call.took_ms == 20 for call in report.calls)


async def test_a_failure_is_told_at_once_with_all_that_came_before_it() -> None:
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK) as told:
        told.notice(noticed())
        await asyncio.sleep(0)
        begun = CLOCK.monotonic()
        told.notice(noticed(Weight.FAILURE))
        await until(lambda: reports.received)
        assert CLOCK.monotonic() - begun < TOLD_EVERY / 2
    assert [call.weight for call in reports.received[0].calls] == [Weight.OK, Weight.FAILURE]
    assert [call.reason for call in reports.received[0].calls] == [None, Failure.RESET]


async def test_many_failures_share_reports_of_which_one_is_under_way() -> None:
    under_way, most = 0, 0

    class Slow(ReportsInMemory):
        async def send(self, report: Report) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            await super().send(report)
            under_way -= 1

    reports = Slow()
    async with Noticing(reports, CLOCK) as told:
        for _ in range(200):
            told.notice(noticed(Weight.FAILURE))
            await asyncio.sleep(0.0005)
        await until(lambda: calls(reports.received) == 200)
    assert most == 1
    assert len(reports.received) < 40


async def test_the_more_roll_ups_a_report_has_the_later_come_the_next_and_without_a_further_call() -> None:
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK) as told:
        for number in range(50):
            told.notice(noticed(Weight.FAILURE, api_code=f"BA{number}"))
        await until(lambda: calls(reports.received) == 50)
        for number in range(51, 53):
            told.notice(noticed(Weight.FAILURE))
            await until(lambda number=number: calls(reports.received) == number)
        await until(lambda: told.all_told)
    sums = [sum(each.calls for each in report.rollups) for report in reports.received]
    assert sums == [50, 0, 0, 2]


async def test_few_roll_ups_are_told_with_the_calls_that_they_are_of() -> None:
    """A process that is killed takes along what it has not told."""
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK) as told:
        for number in range(1, 4):
            told.notice(noticed(Weight.FAILURE))
            await until(lambda number=number: calls(reports.received) == number)
            await asyncio.sleep(2 * A_SUM)
        sums = [sum(each.calls for each in report.rollups) for report in reports.received]
    assert sums == [1, 1, 1]


async def test_a_cancelled_call_is_in_the_roll_ups_and_in_no_sample() -> None:
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK) as told:
        told.notice(noticed(None))
    (report,) = reports.received
    assert report.calls == ()
    assert [(each.calls, each.cancelled, each.ms) for each in report.rollups] == [(1, 1, 0)]


async def test_who_leaves_says_what_is_left() -> None:
    reports = ReportsInMemory()
    async with Noticing(reports, CLOCK) as told:
        for _ in range(MOST_IN_A_REPORT + 1):
            told.notice(noticed())
    assert [report.number for report in reports.received] == [1, 2]
    assert calls(reports.received) == rolled(reports.received) == MOST_IN_A_REPORT + 1
    assert told.all_told


async def test_a_report_that_was_perhaps_kept_is_sent_again_as_it_is_under_its_number() -> None:
    reports = ReportsInMemory()
    reports.mute = True
    async with Noticing(reports, CLOCK, draw=lambda: 0.0) as told:
        told.notice(noticed(Weight.FAILURE))
        await until(lambda: len(reports.received) >= 2)
        told.notice(noticed())  # comes too late for the first
        reports.mute = False
        await until(lambda: told.all_told)
    again = [report for report in reports.received if report.number == 1]
    assert len(again) >= 2
    assert len({msgspec.json.encode(msgspec.structs.replace(each, waited_ms=0)) for each in again}) == 1
    assert [each.waited_ms for each in again] == sorted(each.waited_ms for each in again)
    assert again[-1].waited_ms >= 50
    assert [len(report.calls) for report in reports.counted if report.calls] == [1, 1]


async def test_while_nobody_listens_the_oldest_calls_give_way_and_no_roll_up_does() -> None:
    reports = ReportsInMemory()
    reports.away = True
    async with Noticing(reports, CLOCK, draw=lambda: 0.0) as told:
        told.notice(noticed(Weight.FAILURE))
        await asyncio.sleep(0.02)  # its report is under way, and will not change
        for epoch in range(MOST_CALLS + 5_000):
            told.notice(noticed(epoch=epoch))
        assert told.waiting <= MOST_CALLS + MOST_IN_A_REPORT + 1
        reports.away = False
        await until(lambda: told.all_told)
    dropped = sum(report.dropped for report in reports.counted)
    assert dropped > 0
    assert calls(reports.counted) + dropped == rolled(reports.counted) == MOST_CALLS + 5_001
    assert [call for report in reports.counted for call in report.calls][-1].epoch == MOST_CALLS + 4_999
    assert all(len(report.calls) <= MOST_IN_A_REPORT for report in reports.counted)


async def test_a_port_that_hangs_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticing, "SENT_WITHIN", 0.01)
    hung = 0

    class Hanging(ReportsInMemory):
        async def send(self, report: Report) -> None:
            nonlocal hung
            if not hung:
                hung += 1
                await asyncio.Event().wait()
            await super().send(report)

    reports = Hanging()
    async with Noticing(reports, CLOCK, draw=lambda: 0.0) as told:
        told.notice(noticed(Weight.FAILURE))
        await until(lambda: reports.received)
    assert [report.number for report in reports.received] == [1]


def test_each_process_has_a_name_of_its_own() -> None:
    assert len({Noticing(ReportsInMemory(), CLOCK).node for _ in range(10)}) == 10


def test_a_name_tells_an_operator_which_process_it_is() -> None:
    assert Noticing(ReportsInMemory(), CLOCK).node.startswith(f"{socket.gethostname()[:40]}:{os.getpid()}:")


class Flaky(ReportsInMemory):
    """Does what a script says: takes, refuses, or keeps without saying so."""

    def __init__(self, script: list[str]) -> None:
        super().__init__()
        self.script = script

    async def send(self, report: Report) -> None:
        said = self.script.pop(0) if self.script else "takes"
        self.away, self.mute = said == "refuses", said == "mute"
        await super().send(report)


@given(st.lists(st.sampled_from(["takes", "refuses", "mute"]), max_size=6), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_numbers_have_no_holes_and_one_content_each_and_every_call_is_told_once(script: list[str], bursts: list[int]) -> None:
    reports = Flaky(script)

    async def lived() -> None:
        told = Noticing(reports, CLOCK, node="n1")
        for burst in bursts:
            for _ in range(burst):
                told.notice(noticed())
            await _one_attempt(told, last=bool(burst % 2))
        while not told.all_told:
            await _one_attempt(told, last=True)

    asyncio.run(lived())
    assert [report.number for report in reports.counted] == list(range(1, len(reports.counted) + 1))
    contents = {(report.number, msgspec.json.encode(msgspec.structs.replace(report, waited_ms=0))) for report in reports.received}
    assert len(contents) == len(reports.counted)
    assert calls(reports.counted) == rolled(reports.counted) == sum(bursts)


async def _one_attempt(told: Noticing, *, last: bool) -> None:
    if told._unsent is not None or told._make(last=last):
        await told._sent()
