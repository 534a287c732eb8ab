"""What is wrong is found, and is over when it is over: not when nobody could see it for a moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import Struct, structs

from backend.clock import ManualClock
from backend.coordinator.figures import Figures
from backend.coordinator.standing import Standing
from backend.coordinator.stream import MemoryStream
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.outcomes import RspCode
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.watching import (
    ANSWERS,
    HOLD,
    LAST_ANSWER,
    QUIET,
    Answers,
    Noted,
    Watch,
    bad_nodes,
    certificates,
    circuits_that_refuse,
    late_queues,
)
from backend.storage.database import Database
from tests.reporting.given import BANK, CARD, NOW, Call, everything, recording, report, tell

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def alerts(database: Database, clock: ManualClock) -> Alerts:
    return Alerts(database=database, clock=clock)


async def open_keys(alerts: Alerts) -> list[str]:
    return sorted(alert.key for alert in await alerts.listed(only_open=True, limit=100))


async def test_circuits_that_are_not_closed_are_found_forced_ones_too(alerts: Alerts) -> None:
    standings = [
        Standing(circuit=Circuit(BANK, Scope.READ), state=CircuitState.OPEN, reason="failure_rate"),
        Standing(circuit=Circuit(BANK, Scope.TOKEN)),
        Standing(circuit=Circuit(CARD, Scope.READ), state=CircuitState.OPEN, mode=Mode.FORCED_OPEN, reason="they asked us to"),
        Standing(circuit=Circuit(CARD, Scope.TOKEN), state=CircuitState.HALF_OPEN, reason="probing"),
    ]

    async def read() -> list[Standing]:
        return standings

    watch = Watch(AlertKind.CIRCUIT, circuits_that_refuse(read), alerts, every=timedelta(0), hold=timedelta(0))
    await watch.sweep(NOW)
    assert await open_keys(alerts) == [f"circuit:{BANK}:read", f"circuit:{CARD}:read", f"circuit:{CARD}:token"]
    standings[0] = Standing(circuit=Circuit(BANK, Scope.READ), state=CircuitState.OPEN, reason="probe_failed")
    await watch.sweep(NOW)
    assert {alert.facts.get("reason") for alert in await alerts.listed(only_open=True, limit=9)} == {
        "failure_rate",
        "they asked us to",
        None,
    }
    standings[0] = Standing(circuit=Circuit(BANK, Scope.READ), reason="recovered")
    await watch.sweep(NOW + SECOND)
    assert await open_keys(alerts) == [f"circuit:{CARD}:read", f"circuit:{CARD}:token"]


async def test_a_bad_node_is_found_with_where_it_is_bad_and_held_while_nobody_tells(alerts: Alerts) -> None:
    known: dict[Circuit, Figures] = {}

    async def read() -> Mapping[Circuit, Figures]:
        return known

    for org_code in (CARD, BANK):
        circuit = Circuit(org_code, Scope.READ)
        known[circuit] = Figures(circuit=circuit, calls=100, failure_rate=9.0, left_out=("n1", "n2"), bad=("n1",))
    watch = Watch(AlertKind.BAD_NODE, bad_nodes(read), alerts, every=timedelta(0), hold=HOLD)
    await watch.sweep(NOW)
    (alert,) = await alerts.listed(only_open=True, limit=9)
    assert alert.facts == {"node": "n1", "org_codes": [BANK, CARD]}
    known.clear()
    await watch.sweep(NOW + HOLD - SECOND)
    assert await open_keys(alerts) == ["node:n1"]
    await watch.sweep(NOW + HOLD)
    assert await open_keys(alerts) == []


async def test_a_queue_is_late_beyond_its_limit(alerts: Alerts) -> None:
    ages = {"interactive": 61.0, "batch": 60.0}

    async def read() -> Mapping[str, float]:
        return ages

    watch = Watch(AlertKind.QUEUE_OLD, late_queues(read, 60.0), alerts, every=timedelta(seconds=5), hold=timedelta(0))
    await watch.sweep(NOW)
    assert await open_keys(alerts) == ["queue:interactive"]
    ages["interactive"] = 0.0
    await watch.sweep(NOW + SECOND)
    assert await open_keys(alerts) == ["queue:interactive"], "it looks each five seconds"
    await watch.sweep(NOW + 5 * SECOND)
    assert await open_keys(alerts) == []


class Hours:
    """Answers that come by and by, and leaders that watch them."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.alerts = Alerts(database=database, clock=clock)
        self._database = database
        self._clock = clock
        self._stream = MemoryStream(clock)
        self._reports = 0
        self.another_leads()

    def another_leads(self) -> None:
        look = Answers(self._database, self.alerts, AlertKind.OUT_OF_WINDOW, RspCode.OUT_OF_WINDOW, "window").look
        self._watch = Watch(AlertKind.OUT_OF_WINDOW, look, self.alerts, every=ANSWERS, hold=LAST_ANSWER)

    async def answered(self, *calls: Call) -> None:
        self._reports += 1
        now = round(self._clock.now().timestamp() * 1000)
        await tell(self._stream, report("n", self._reports, *(structs.replace(each, began_ms=now) for each in calls)))
        await everything(recording(self._stream, self._database, self._clock))

    async def after(self, time: timedelta) -> list[tuple[str, int]]:
        """What is told as wrong, with how many calls."""
        self._clock.move(time)
        await self._watch.sweep(self._clock.now())
        return [(alert.key, alert.facts["calls"]) for alert in await self.alerts.listed(only_open=True, limit=9)]


FAULT = Call(reason="50009", scheduled=True)
AT_THE_BANK = f"window:{BANK}"


async def test_our_own_faults_are_found_in_what_scheduled_calls_were_answered(database: Database, clock: ManualClock) -> None:
    hours = Hours(database, clock)
    probes_and_users = [Call(api_code="CM01", reason="50009"), Call(reason="50009", user="anna")]
    await hours.answered(*probes_and_users, Call(org_code=CARD, reason="42901", scheduled=True), Call(reason="50001", scheduled=True))
    assert await hours.after(timedelta(0)) == [], "none of these is a scheduled call outside of the window"
    await hours.answered(FAULT, FAULT)
    assert await hours.after(ANSWERS) == [(AT_THE_BANK, 2)]


async def test_a_fault_of_ours_is_over_ten_minutes_after_its_last_answer(database: Database, clock: ManualClock) -> None:
    hours = Hours(database, clock)
    await hours.answered(FAULT)
    assert await hours.after(timedelta(0)) == [(AT_THE_BANK, 1)]
    assert await hours.after(LAST_ANSWER - ANSWERS) == [(AT_THE_BANK, 1)]
    await hours.answered(FAULT)
    assert await hours.after(SECOND) == [(AT_THE_BANK, 1)], "it looks each half minute"
    assert await hours.after(ANSWERS) == [(AT_THE_BANK, 2)], "a rise keeps it"
    assert await hours.after(LAST_ANSWER - ANSWERS) == [(AT_THE_BANK, 2)]
    assert await hours.after(ANSWERS) == []
    assert await hours.after(ANSWERS) == [], "what was counted is no rise"
    await hours.answered(FAULT)
    assert await hours.after(ANSWERS) == [(AT_THE_BANK, 3)]


async def test_a_new_hour_hides_no_rise(database: Database, clock: ManualClock) -> None:
    hours = Hours(database, clock)
    await hours.answered(*[FAULT] * 5)
    await hours.after(timedelta(0))
    assert await hours.after(timedelta(hours=1)) == []
    assert await hours.after(timedelta(minutes=40)) == []  # the hour of the five is no longer looked at
    await hours.answered(FAULT)
    assert await hours.after(ANSWERS) == [(AT_THE_BANK, 1)]


async def test_another_leader_goes_on_with_what_was_told(database: Database, clock: ManualClock) -> None:
    hours = Hours(database, clock)
    await hours.answered(FAULT)
    await hours.after(timedelta(0))
    hours.another_leads()
    assert await hours.after(5 * ANSWERS) == [(AT_THE_BANK, 1)]
    assert await hours.after(LAST_ANSWER - ANSWERS) == [(AT_THE_BANK, 1)], "it cannot know when the last answer came"
    assert await hours.after(ANSWERS) == []
    hours.another_leads()
    assert await hours.after(ANSWERS) == [], "it is over, and nothing came since"
    hours.another_leads()
    await hours.answered(FAULT)
    assert await hours.after(ANSWERS) == [(AT_THE_BANK, 2)], "nobody led when it came"


async def test_a_certificate_is_near_its_end_from_a_set_number_of_days_on() -> None:
    async def ends() -> Mapping[str, datetime]:
        return {BANK: NOW + timedelta(days=30), CARD: NOW + timedelta(days=30) - SECOND, "past": NOW - timedelta(days=3)}

    found = await certificates(ends, 30)(NOW)
    assert {key: facts["days"] for key, facts in found.items()} == {f"certificate:{CARD}": 29, "certificate:past": 0}


class Swept(Struct):
    """Finds what it is told to find."""

    found: int = 0
    name: str = "open_work"

    async def sweep(self, now: Any) -> int:
        return self.found


async def test_lost_work_is_counted_and_over_when_none_was_found_for_a_while(alerts: Alerts) -> None:
    inner = Swept()
    noted = Noted(inner, alerts)
    assert await noted.sweep(NOW) == 0
    inner.found = 2
    assert [await noted.sweep(NOW), await noted.sweep(NOW)] == [2, 2]
    inner.found = 0
    await noted.sweep(NOW + QUIET - SECOND)
    (alert,) = await alerts.listed(only_open=True, limit=9)
    assert (alert.key, alert.facts) == ("lost:open_work", {"sweep": "open_work", "found": 4})
    await noted.sweep(NOW + QUIET)
    assert await open_keys(alerts) == []


async def test_a_leader_that_begins_ends_what_the_one_before_had_found(alerts: Alerts) -> None:
    inner = Swept(found=1)
    await Noted(inner, alerts).sweep(NOW)
    inner.found = 0
    following = Noted(inner, alerts)
    await following.sweep(NOW)
    assert await open_keys(alerts) == ["lost:open_work"]
    await following.sweep(NOW + QUIET)
    assert await open_keys(alerts) == []
