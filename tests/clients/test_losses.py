"""Valkey forgets everything in the middle of a registration: every app is told, and ends with what a fresh snapshot shows."""

from __future__ import annotations

import pytest

from backend.jobs.valkey import connect
from tests.clients.cutting import cutting
from tests.clients.household import five_apps
from tests.clients.node import Node
from tests.clients.people import a_person, an_api
from tests.realtime.given import until
from tests.registration.house import BANK, CARD, INVEST, TELECOM, House

LAST = TELECOM


@pytest.mark.parametrize("cuts", [None, (0.1, 0.3)], ids=["on living connections", "between cuts"])
async def test_apps_that_lost_history_end_with_a_fresh_snapshot(house: House, node: Node, cuts: tuple[float, float] | None) -> None:
    await house.provider(LAST, latency_ms={"p50": 350, "p99": 450})
    async with an_api(house) as api, cutting(api.port, seed=7, life=cuts) as proxy, a_person(house, api.url) as anna:
        begin = await anna.place()
        registration = await anna.begins(BANK, CARD, INVEST, LAST)
        async with five_apps(anna, proxy, node) as apps:
            await registration.until(lambda: "completed" in registration.of(BANK))
            await until(lambda: all(app.attaches for app in apps[:4]), 30)
            await forget_everything(house)
            await until(lambda: has_ended(registration.client, registration.id), 30)
            top = await anna.place()
            assert top[0] != begin[0]
            await until(lambda: all(app.place == top for app in apps), 30)
            await until(lambda: all(app.snapshot is not None for app in apps), 5)
        fresh = (await anna.snapshot()).view()
    for app in apps:
        assert app.losses >= 1, f"{app.name} was never told"
        assert app.faults == []
        assert app.view().shows_what(fresh), app.name


async def forget_everything(house: House) -> None:
    url = house.settings.valkey_url
    assert url is not None
    async with connect(url.get_secret_value(), timeout=5, pool=2) as valkey:
        await valkey.flushall()


async def has_ended(client: object, registration_id: str) -> bool:
    registration = await client.registration(registration_id)  # type: ignore[attr-defined]
    return registration["status"] not in {"signing", "collecting"}
