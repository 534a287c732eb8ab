"""The weekly report: what the portal wants, and a fortnight of calls of which every figure is right to the last digit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import count
from statistics import fmean, pstdev
from typing import Any

import pytest

from backend.clock import KST, ManualClock
from backend.coordinator.stream import MemoryStream
from backend.providers.contract import ApiType
from backend.providers.sandbox.calls import Call as Logged
from backend.providers.sandbox.calls import CallLog
from backend.reporting.figures import borders
from backend.reporting.reading import Traffic
from backend.reporting.statistics import portal, report, sunday_of
from backend.reporting.weeks import Weeks
from backend.storage.database import Database
from tests.reporting.given import BANK, CARD, Call, everything, recording, tell
from tests.reporting.given import report as told

SUNDAY = date(2021, 9, 5)  # the standard's own example: the report of 12 September covers 5 to 11 September
MIDNIGHT, _ = borders(SUNDAY)
HOUR = timedelta(hours=1)
CA = "CAMOA00001"


async def given(database: Database, calls: Iterable[Call]) -> Weeks:
    clock = ManualClock(MIDNIGHT)
    stream = MemoryStream(clock)
    await tell(stream, told("n", 1, *calls))
    await everything(recording(stream, database, clock))
    return Weeks(database=database)


def at(moment: datetime, **more: Any) -> Call:
    return Call(began_ms=round(moment.timestamp() * 1000), **more)


def test_a_week_begins_on_its_sunday() -> None:
    assert {sunday_of(SUNDAY + timedelta(days=number)) for number in range(7)} == {SUNDAY}
    assert sunday_of(SUNDAY + timedelta(days=7)) == SUNDAY + timedelta(days=7)


def _slot(name: str, *, average: str, total: str, deviation: str, well: str, failed: str) -> dict[str, str]:
    times = {"rsp_avg": average, "rsp_total": total, "rsp_stdev": deviation}
    return {"tm_slot": name, **times, "success_api_cnt": well, "fail_api_cnt": failed}


async def test_the_portals_body_is_the_one_of_the_standard(database: Database) -> None:
    nine = MIDNIGHT + 9 * HOUR
    calls = [
        at(nine, took_ms=10, scheduled=True),
        at(nine, took_ms=20, scheduled=True),
        at(nine + 9 * HOUR - timedelta(milliseconds=1), took_ms=60, scheduled=True, reason="50001"),
        at(nine + 9 * HOUR, took_ms=5, scheduled=True),
        at(nine - timedelta(milliseconds=1), took_ms=7, scheduled=True, cancelled=True),
        at(nine, took_ms=1000),
        at(nine, took_ms=3, org_code=CA, api_code="AU11", scheduled=True),
        at(MIDNIGHT - timedelta(milliseconds=1), scheduled=True),  # of Saturday
        at(MIDNIGHT + timedelta(days=7), scheduled=True),  # of the next Sunday
    ]
    week = await (await given(database, calls)).week(SUNDAY, SUNDAY + timedelta(days=7))
    body = portal(week, scheduled=True, client_id="moa", leave_out=frozenset({CA}))
    days = body.pop("stat_date_list")
    assert body == {"type": "1", "client_id": "moa", "inquiry_date": "20210912", "stat_date_cnt": "7"}
    assert [day["stat_date"] for day in days] == [f"202109{number:02}" for number in range(5, 12)]
    assert all(day["org_list"] == [] for day in days[1:])
    morning = _slot("00", average="30.00", total="90", deviation="21.60", well="2", failed="1")
    day = _slot("01", average="5.00", total="5", deviation="0.00", well="1", failed="0")
    nobody = {"consent_new": "0", "consent_revoke": "0", "consent_own": "0"}
    kinds = [{"api_type": "BA01", "tm_slot_cnt": "2", "tm_slot_list": [morning, day]}]
    assert days[0]["org_list"] == [{"org_code": BANK, **nobody, "api_type_list": kinds}]
    of_users = portal(week, scheduled=False, client_id="moa", leave_out=frozenset({CA}))
    (org,) = of_users["stat_date_list"][0]["org_list"]
    assert (of_users["type"], org["api_type_list"][0]["tm_slot_list"][0]["rsp_total"]) == ("2", "1000")


async def test_consents_are_counted_by_the_day_on_which_it_happened_and_held_when_a_day_ends(database: Database) -> None:
    noon = MIDNIGHT + 12 * HOUR
    day = timedelta(days=1)
    history = [
        ("anna", BANK, "granted", noon - 30 * day, None),  # held all along
        ("bert", BANK, "granted", noon, SUNDAY + timedelta(days=3)),  # not good any more from Wednesday on
        ("cara", BANK, "granted", noon, None),
        ("cara", BANK, "revoked", noon + day, None),
        ("cara", BANK, "granted", noon + 2 * day, None),  # comes back
        ("dora", BANK, "granted", noon, None),
        ("dora", BANK, "granted", noon + 4 * day, None),  # another consent in place of the first
        ("emil", CARD, "granted", noon - day, None),
        ("emil", CARD, "withdrawn", MIDNIGHT, None),  # the first moment of Sunday
        ("emil", CARD, "revoked", noon + 7 * day, None),  # of the next week
    ]
    async with database.reading() as connection:
        for user, org_code, happened, moment, ends_on in history:
            await connection.execute(
                "INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at) VALUES ($1, $2, 'tx', $3, $4, $5)",
                *(user, org_code, happened, ends_on, moment),
            )
    week = await Weeks(database=database).week(SUNDAY, SUNDAY + timedelta(days=7))
    of_bank = [each for each in week.consents if each.org_code == BANK]
    assert [(each.new, each.revoked, each.held) for each in of_bank] == [
        (3, 0, 4),
        (0, 1, 3),
        (1, 0, 4),
        (0, 0, 3),
        (1, 0, 3),
        (0, 0, 3),
        (0, 0, 3),
    ]
    assert next((each.new, each.revoked, each.held) for each in week.consents if each.org_code == CARD) == (0, 1, 0)
    so_far = await Weeks(database=database).week(SUNDAY, SUNDAY + timedelta(days=2))
    assert so_far.consents == tuple(each for each in week.consents if each.day <= SUNDAY + timedelta(days=2)), (
        "a day to come has no figures"
    )
    (bank, card) = report(week, {BANK: "새벽은행"}, {})["providers"]
    assert (bank["name"], bank["consents"], bank["apis"]) == ("새벽은행", {"new": 5, "revoked": 1, "held": 3}, [])
    assert card["consents"] == {"new": 0, "revoked": 1, "held": 0}


def fortnight(seed: int, calls: int) -> CallLog:
    """What a sandbox would have logged: two weeks of calls, many of them around midnight in Korea."""
    dice = random.Random(seed)
    log = CallLog(calls)
    moments = []
    for _ in range(calls):
        if dice.random() < 0.2:
            midnight = MIDNIGHT.timestamp() + 86_400 * dice.randint(0, 14)
            moments.append(midnight + dice.choice([-3600, -0.001, 0, 0.001, 3600 * 9, 3600 * 18 - 0.001]))
        else:
            moments.append(MIDNIGHT.timestamp() + dice.uniform(0, 14 * 86_400))
    for moment in sorted(round(each, 3) for each in moments):
        code = dice.choice([BANK, CARD, "A1MOABK002"])
        call = log.arrived(moment, code, "GET", f"/{code}")
        call.api_code, call.user = dice.choice(["BA01", "BA02", "AU02"]), f"{dice.randint(1, 40):022}"
        call.api_type = dice.choice([ApiType.SCHEDULED, ApiType.USER_CONSENT, ApiType.USER_REFRESH])
        call.rsp_code = dice.choice(["00000"] * 8 + ["50001", "40402"])
        call.status, call.ms = (200 if call.rsp_code == "00000" else 500), float(dice.randint(0, 25_000))
    return log


def as_noticed(call: Logged) -> Call:
    """The same call, as the node that made it adds it up."""
    return Call(
        org_code=call.org_code,
        api_code=call.api_code or "",
        scheduled=call.api_type == ApiType.SCHEDULED,
        began_ms=round(call.at * 1000),
        user=call.user,
        took_ms=round(call.ms),
        reason=None if call.rsp_code == "00000" else call.rsp_code,
    )


@pytest.mark.parametrize(("seed", "calls"), [(1, 4_000), *(pytest.param(seed, 40_000, marks=pytest.mark.long) for seed in range(2, 6))])
async def test_a_fortnight_equals_the_call_log_over_restarts_of_whoever_adds_up(database: Database, seed: int, calls: int) -> None:
    """Three nodes report in a random order, some reports twice; whoever adds up starts anew after each few of them."""
    dice = random.Random(seed)
    log = list(fortnight(seed, calls).since(0))
    stream, clock = MemoryStream(ManualClock(MIDNIGHT)), ManualClock(MIDNIGHT)
    numbers, waiting = {node: count(1) for node in "abc"}, []
    for start in range(0, len(log), 40):
        node = dice.choice("abc")
        waiting.append(told(node, next(numbers[node]), *map(as_noticed, log[start : start + 40])))
    waiting += dice.sample(waiting, 20)
    dice.shuffle(waiting)
    for start in range(0, len(waiting), 10):
        await tell(stream, *waiting[start : start + 10])
        await everything(recording(stream, database, clock))

    for begins in (SUNDAY, SUNDAY + timedelta(days=7)):
        week = await Weeks(database=database).week(begins, begins + timedelta(days=7))
        of_week = [each for each in log if begins <= day_of(each) < begins + timedelta(days=7)]
        assert {
            (each.day, each.at_work, each.org_code, each.api_code, each.scheduled): (
                *(each.sums.calls, each.sums.successes, each.sums.failures),
                *(each.sums.mean_ms, each.sums.deviation_ms),
            )
            for each in week.slots
        } == expected(of_week)
        reasons = Counter((each.org_code, each.api_type == "scheduled", each.rsp_code) for each in of_week if each.rsp_code != "00000")
        assert {failed[:3]: failed[3] for failed in week.failures} == reasons
    await the_days_and_their_users_equal(database, log)


async def the_days_and_their_users_equal(database: Database, log: list[Logged]) -> None:
    traffic = Traffic(database=database)
    for number in range(15):
        day = SUNDAY + timedelta(days=number)
        of_day = [each for each in log if day_of(each) == day]
        calls = Counter((each.org_code, each.api_type == "scheduled") for each in of_day)
        assert {(each.org_code, each.scheduled): each.sums.calls for each in await traffic.by_provider(day)} == calls
        users = Counter(key[:2] for key in {(each.org_code, each.api_type == "scheduled", each.user) for each in of_day})
        assert {(each.org_code, each.scheduled): each.users for each in await traffic.users(day)} == users


def day_of(call: Logged) -> date:
    return datetime.fromtimestamp(call.at, UTC).astimezone(KST).date()


def expected(calls: Iterable[Logged]) -> dict[Any, Any]:
    """By hand, from the log alone."""
    groups: dict[Any, list[Logged]] = {}
    for each in calls:
        hour = datetime.fromtimestamp(each.at, UTC).astimezone(KST).hour
        key = (day_of(each), 9 <= hour < 18, each.org_code, each.api_code, each.api_type == "scheduled")
        groups.setdefault(key, []).append(each)
    return {
        key: (
            len(group),
            sum(each.rsp_code == "00000" for each in group),
            sum(each.rsp_code != "00000" for each in group),
            fmean(each.ms for each in group),
            pstdev(each.ms for each in group),
        )
        for key, group in groups.items()
    }
