"""Something is wrong from the first word that says so to the first that says it is over, however often either is said."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from backend.clock import ManualClock
from backend.reporting.alarms import AlertKind, Alerts
from backend.storage.database import Database
from tests.reporting.given import BANK, NOW

KEY = f"batch:{BANK}"


def late(left: int) -> dict[str, object]:
    return {"org_code": BANK, "left": left, "by": "2026-11-22T22:00:00.000Z"}


async def test_what_is_said_again_is_one_alert_with_the_newest_facts(database: Database) -> None:
    clock = ManualClock(NOW)
    alerts = Alerts(database=database, clock=clock)
    assert await alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(7))
    clock.move(timedelta(minutes=1))
    assert not await alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(5))
    (alert,) = await alerts.listed(only_open=True, limit=10)
    assert (alert.key, alert.kind, alert.facts["left"], alert.opened_at) == (KEY, "batch_late", 5, NOW)


async def test_processes_that_say_the_same_at_once_make_one_alert(database: Database) -> None:
    alerts = Alerts(database=database, clock=ManualClock(NOW))
    new = await asyncio.gather(*(alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(left)) for left in range(6)))
    assert sum(new) == 1
    assert len(await alerts.listed(only_open=False, limit=10)) == 1


async def test_an_end_is_an_end_once_and_what_comes_again_is_another_alert(database: Database) -> None:
    clock = ManualClock(NOW)
    alerts = Alerts(database=database, clock=clock)
    assert not await alerts.end_alert(KEY)
    await alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(7))
    clock.move(timedelta(minutes=1))
    assert [await alerts.end_alert(KEY), await alerts.end_alert(KEY)] == [True, False]
    assert await alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(3))
    now, before = await alerts.listed(only_open=False, limit=10)
    assert (now.closed_at, before.closed_at) == (None, NOW + timedelta(minutes=1))


async def test_aligned_with_what_is_found_only_what_changed_is_written(database: Database) -> None:
    alerts = Alerts(database=database, clock=ManualClock(NOW))
    await alerts.raise_alert(KEY, AlertKind.BATCH_LATE, late(7))
    found = {"node:a": {"node": "a", "org_codes": [BANK]}, "node:b": {"node": "b", "org_codes": [BANK]}}
    assert await alerts.align(AlertKind.BAD_NODE, found) == 2
    assert await alerts.align(AlertKind.BAD_NODE, found) == 0
    assert await alerts.align(AlertKind.BAD_NODE, {"node:a": found["node:a"]}) == 1
    assert {alert.key for alert in await alerts.listed(only_open=True, limit=10)} == {KEY, "node:a"}, "other kinds are left alone"
