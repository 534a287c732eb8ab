"""Operators have each message once in the end, whatever becomes of the receiver and of the coordinators that send."""

from __future__ import annotations

import asyncio

import pytest

from backend.clock import SystemClock
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.messenger import LEASE as SENDING
from backend.storage.database import Database
from tests.faults.receiver import Receiver
from tests.faults.supervisor import Topology, a_fleet

KEY = "lost:rehearsal"  # that no sweep of a coordinator knows, so that none ends it

pytestmark = [pytest.mark.system, pytest.mark.long]


async def test_a_receiver_that_is_down_ill_and_deaf_and_coordinators_that_are_killed_leave_one_message() -> None:
    receiver = Receiver()
    settings = {"MOA_NOTICE_WEBHOOKS": f"http://127.0.0.1:{receiver.port}/services/secret", "MOA_ALERT_SECONDS": "1"}
    async with a_fleet(Topology(coordinators=2, settings=settings)) as fleet:
        database = Database(fleet.postgres.engine.url, pool=2)
        alerts = Alerts(database=database, clock=SystemClock())
        await alerts.raise_alert(KEY, AlertKind.LOST_WORK, {"sweep": "rehearsal", "found": 7})
        await asyncio.sleep(6)  # nobody listens
        receiver.mode = "500"
        await receiver.listen()
        await receiver.asked("500")
        receiver.mode = "taken"
        await receiver.asked("taken")
        await asyncio.gather(*(coordinator.kill() for coordinator in fleet.coordinators))
        await alerts.end_alert(KEY)
        receiver.mode = "ok"
        await asyncio.gather(*(coordinator.start() for coordinator in fleet.coordinators))
        async with asyncio.timeout(SENDING.total_seconds() + 60):
            while len(receiver.shown) < 2:
                await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # nothing more comes
        begun, ended = receiver.shown.values()
        assert begun.startswith("🚨")
        assert ended.startswith("✅")
        assert receiver.attempts["taken"] == 1
        assert receiver.attempts["ok"] == 2, "the one whose answer got lost, under its own key, and then its end"
        assert not any("services" in member.log.read_text() for member in fleet.coordinators), "the URL's path is a secret"
        async with database.reading() as connection:
            assert [row["state"] for row in await connection.fetch("SELECT state FROM notices")] == ["sent", "sent"]
        await database.close()
        await receiver.close()
